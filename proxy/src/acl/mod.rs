//! Who may do what: users from the configuration, by rules as in Redis's ACL files.
//! They do not change while the proxy runs.

mod elsewhere;
mod user;

use std::{collections::BTreeMap, path::Path, sync::Arc};

pub use user::{Applied, Denied, Request, RuleError, User};

/// All users.
#[derive(Clone, Debug)]
pub struct Acl {
    users: BTreeMap<String, Arc<User>>,
    warnings: Vec<String>,
}

/// Users that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum AclError {
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A line that is no user.
    #[error("line {line}: must be `user NAME RULES...`")]
    Line {
        /// From 1.
        line: usize,
    },
    /// A rule of it that is not understood.
    #[error("line {line}: {error}")]
    Rule {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        error: RuleError,
    },
    /// A user twice.
    #[error("line {line}: user {name} is there twice")]
    Twice {
        /// From 1.
        line: usize,
        /// The user.
        name: String,
    },
}

/// Everybody may do everything.
impl Default for Acl {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Acl {
    /// The default user alone, with this password if there is one.
    pub fn new(password: Option<&str>) -> Self {
        let default = Arc::new(User::default_with(password));
        Self {
            users: BTreeMap::from([("default".into(), default)]),
            warnings: Vec::new(),
        }
    }

    /// The users of a file besides, or instead of, the default one.
    pub fn read(password: Option<&str>, file: &Path) -> Result<Self, AclError> {
        Self::parse(password, &std::fs::read_to_string(file)?)
    }

    fn parse(password: Option<&str>, text: &str) -> Result<Self, AclError> {
        let mut acl = Self::new(password);
        let mut named: Vec<String> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_whitespace();
            let (Some("user"), Some(name)) = (words.next(), words.next()) else {
                return Err(AclError::Line { line: number });
            };
            if named.iter().any(|known| known == name) {
                let name = name.to_owned();
                return Err(AclError::Twice { line: number, name });
            }
            let mut user = User::new(name);
            for rule in words {
                let wrong = |error| AclError::Rule {
                    line: number,
                    error,
                };
                if user.apply(rule).map_err(wrong)? == Applied::Ignored {
                    acl.warnings.push(format!(
                        "line {number}: rule '{rule}' names a command that is not there"
                    ));
                }
            }
            named.push(name.to_owned());
            acl.users.insert(name.to_owned(), Arc::new(user));
        }
        Ok(acl)
    }

    /// The user of this name.
    pub fn user(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.users.get(std::str::from_utf8(name).ok()?)
    }

    /// Whom a connection is that has not said who it is; nobody, if that needs a
    /// password.
    pub fn anybody(&self) -> Option<Arc<User>> {
        let default = self.users.get("default");
        default.filter(|user| user.needs_no_password()).cloned()
    }

    /// The user of this name, if this is its password.
    pub fn log_in(&self, name: &[u8], password: &[u8]) -> Option<Arc<User>> {
        // somebody is compared with in any case: how long it takes does not say
        // whether there is such a user
        let nobody = User::new("");
        match self.user(name) {
            Some(user) => user.admits(password).then(|| user.clone()),
            None => {
                let _ = nobody.admits(password);
                None
            }
        }
    }

    /// Whether AUTH with a password alone makes sense.
    pub fn default_has_password(&self) -> bool {
        self.anybody().is_none()
    }

    /// What is odd about the file, but no error.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// All of them, by name.
    pub fn users(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_users_one_a_line() {
        let text = "# who\n\nuser default off\nuser al on >pw ~a:* +get\n";
        let acl = Acl::parse(None, text).unwrap();
        assert!(acl.anybody().is_none() && acl.default_has_password());
        assert_eq!(acl.log_in(b"al", b"pw").unwrap().name, "al");
        assert!(acl.log_in(b"al", b"x").is_none() && acl.log_in(b"bo", b"pw").is_none());
        let names: Vec<&str> = acl.users().map(|u| &u.name[..]).collect();
        assert_eq!(names, ["al", "default"]);
        // what is listed can be read again
        let listed: Vec<String> = acl.users().map(|u| u.to_string()).collect();
        let again = Acl::parse(None, &listed.join("\n")).unwrap();
        assert_eq!(again.user(b"al"), acl.user(b"al"));
        for (wrong, line) in [("al on", 1), ("user", 1), ("\nuser a +x", 2)] {
            let error = Acl::parse(None, wrong).unwrap_err().to_string();
            assert!(error.starts_with(&format!("line {line}: ")), "{error}");
        }
        assert!(Acl::parse(None, "user a on\nuser a off").is_err());
    }

    #[test]
    fn a_password_is_asked_for_if_there_is_one() {
        assert!(Acl::new(None).anybody().is_some());
        let acl = Acl::new(Some("x"));
        assert!(acl.anybody().is_none());
        assert!(acl.log_in(b"default", b"x").is_some());
    }
}
