//! What is said at the beginning of a connection; pure.

use crate::{
    Error, Options,
    error::{ErrorCode, ServerError},
    protocol::{Reply, Request},
};

/// A request of the handshake.
#[derive(Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) request: Request,
    /// Whether the connection is of no use without it.
    is_needed: bool,
}

impl Step {
    /// Whether the handshake can go on.
    pub(crate) fn check(&self, reply: &Reply) -> Result<(), Error> {
        match reply {
            Reply::Error(line) if self.is_needed => Err(Error::Server(ServerError::parse(line))),
            _ => Ok(()),
        }
    }
}

/// The first request: RESP3, and who we are.
pub(crate) fn hello(options: &Options) -> Request {
    let mut request = Request::new("HELLO").number(3);
    if let Some(password) = &options.password {
        let user = options.user.as_deref().unwrap_or("default");
        request = request
            .arg("AUTH")
            .arg(user.to_owned())
            .arg(password.clone());
    }
    request
}

/// Whether the server has taken HELLO. One from before Redis 6 does not know it,
/// others may not know RESP3: with them it is RESP2.
pub(crate) fn speaks_resp3(reply: Option<&Reply>) -> Result<bool, Error> {
    match reply {
        Some(Reply::Map(_)) => Ok(true),
        Some(Reply::Error(line)) => {
            let error = ServerError::parse(line);
            let is_unknown = error.code == ErrorCode::Err
                && error
                    .message
                    .to_ascii_lowercase()
                    .contains("unknown command");
            match is_unknown || error.code == ErrorCode::NoProto {
                true => Ok(false),
                false => Err(Error::Server(error)),
            }
        }
        Some(other) => Err(Error::unexpected("HELLO", other)),
        None => Err(Error::ended(false)),
    }
}

/// Whether the reply to HELLO says that the server belongs to a cluster.
pub(crate) fn is_of_cluster(reply: &Reply) -> bool {
    let is = |reply: &Reply, word: &str| match reply {
        Reply::Bulk(text) | Reply::Status(text) => text == word,
        _ => false,
    };
    let Reply::Map(fields) = reply else {
        return false;
    };
    let mut fields = fields.iter();
    fields.any(|(name, value)| is(name, "mode") && is(value, "cluster"))
}

/// What follows, all at once.
pub(crate) fn steps(options: &Options, is_resp3: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut step = |is_needed, request| steps.push(Step { request, is_needed });
    if let (Some(password), false) = (&options.password, is_resp3) {
        let mut request = Request::new("AUTH");
        if let Some(user) = &options.user {
            request = request.arg(user.clone());
        }
        step(true, request.arg(password.clone()));
    }
    if options.database != 0 {
        let request = Request::new("SELECT").number(options.database.into());
        step(true, request);
    }
    let client = |words: [&'static str; 2], value: String| {
        Request::new("CLIENT")
            .arg(words[0])
            .arg(words[1])
            .arg(value)
    };
    if let Some(name) = &options.name {
        step(
            true,
            Request::new("CLIENT").arg("SETNAME").arg(name.clone()),
        );
    }
    // servers from before Redis 7.2 do not know it
    step(
        false,
        client(["SETINFO", "LIB-NAME"], "scatterhoard-client".to_owned()),
    );
    step(
        false,
        client(["SETINFO", "LIB-VER"], env!("CARGO_PKG_VERSION").to_owned()),
    );
    steps
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn words(request: &Request) -> String {
        let words = request
            .arguments()
            .iter()
            .map(|w| w.escape_ascii().to_string());
        let words: Vec<_> = words.collect();
        words.join(" ")
    }

    fn error(line: &'static str) -> Reply {
        Reply::Error(Bytes::from_static(line.as_bytes()))
    }

    #[test]
    fn with_resp3_the_password_goes_with_hello() {
        let options = Options::new("h", 1).password("pw").database(2).name("me");
        assert_eq!(words(&hello(&options)), "HELLO 3 AUTH default pw");
        let all: Vec<_> = steps(&options, true)
            .iter()
            .map(|s| words(&s.request))
            .collect();
        assert_eq!(all[..2], ["SELECT 2", "CLIENT SETNAME me"]);
        assert_eq!(all[2], "CLIENT SETINFO LIB-NAME scatterhoard-client");
        assert_eq!(words(&hello(&Options::new("h", 1))), "HELLO 3");
    }

    #[test]
    fn without_resp3_it_goes_by_itself() {
        let options = Options::new("h", 1).password("pw");
        assert_eq!(words(&steps(&options, false)[0].request), "AUTH pw");
        let options = options.user("me");
        assert_eq!(words(&steps(&options, false)[0].request), "AUTH me pw");
        assert_eq!(words(&hello(&options)), "HELLO 3 AUTH me pw");
    }

    #[test]
    fn who_does_not_know_hello_speaks_resp2() {
        for line in ["ERR unknown command `HELLO`, with args", "NOPROTO sorry"] {
            assert!(!speaks_resp3(Some(&error(line))).unwrap());
        }
        assert!(speaks_resp3(Some(&Reply::Map(vec![]))).unwrap());
        for line in [
            "WRONGPASS x",
            "NOAUTH x",
            "ERR max number of clients reached",
        ] {
            assert!(speaks_resp3(Some(&error(line))).is_err());
        }
        assert!(speaks_resp3(Some(&Reply::Null)).is_err());
    }

    #[test]
    fn a_member_of_a_cluster_says_so() {
        let text = |text: &'static str| Reply::Bulk(Bytes::from_static(text.as_bytes()));
        let hello = |mode| {
            Reply::Map(vec![
                (text("proto"), Reply::Integer(3)),
                (text("mode"), mode),
            ])
        };
        assert!(is_of_cluster(&hello(text("cluster"))));
        assert!(!is_of_cluster(&hello(text("standalone"))));
        assert!(!is_of_cluster(&hello(Reply::Null)));
        assert!(!is_of_cluster(&error("ERR unknown command")));
    }

    #[test]
    fn only_what_is_needed_must_succeed() {
        let options = Options::new("h", 1).database(1);
        let steps = steps(&options, true);
        assert!(
            steps[0]
                .check(&error("ERR DB index is out of range"))
                .is_err()
        );
        assert!(steps[1].check(&error("ERR unknown subcommand")).is_ok());
    }
}
