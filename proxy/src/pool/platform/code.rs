//! New code for a function: its instances and all that they hold are gone with the old
//! one, so its node is drained before.

use std::time::Duration;

use aws_sdk_lambda::{
    error::DisplayErrorContext,
    primitives::Blob,
    types::{LastUpdateStatus, State},
};
use tokio::time::{Instant, sleep};

use super::{Platform, Way};

/// An update may take so long until it has its effect.
const LIMIT: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(500);

impl Platform {
    /// Updates the code of a function, and returns when it has its effect.
    ///
    /// # Errors
    /// What the platform says.
    pub async fn update_code(&self, function: &str, zip: Vec<u8>) -> Result<(), String> {
        let Way::Sdk(remote) = &self.0 else {
            return Err("functions of a simulation have no code".into());
        };
        let client = &remote.client;
        let update = client.update_function_code().function_name(function);
        let sent = update.zip_file(Blob::new(zip)).send().await;
        sent.map_err(|e| DisplayErrorContext(e).to_string())?;
        let end = Instant::now() + LIMIT;
        loop {
            let asked = client.get_function_configuration().function_name(function);
            let now = asked.send().await;
            let now = now.map_err(|e| DisplayErrorContext(e).to_string())?;
            match (now.state(), now.last_update_status()) {
                (Some(State::Failed), _) | (_, Some(LastUpdateStatus::Failed)) => {
                    let why = now.last_update_status_reason().or(now.state_reason());
                    return Err(why.unwrap_or("it failed").to_owned());
                }
                (Some(State::Pending), _) | (_, Some(LastUpdateStatus::InProgress)) => {}
                _ => return Ok(()),
            }
            if Instant::now() >= end {
                return Err(format!("not done after {} s", LIMIT.as_secs()));
            }
            sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// Head and body of one request.
    async fn request(stream: &mut TcpStream) -> (String, String) {
        let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let n = stream.read(&mut buffer).await.unwrap();
            bytes.extend_from_slice(&buffer[..n]);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                assert!(n > 0, "cut off: {text}");
                continue;
            };
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                let is_it = name.eq_ignore_ascii_case("content-length");
                is_it.then(|| value.trim().parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return (head.to_owned(), body.to_owned());
            }
        }
    }

    /// A platform that gives these answers, one a connection; what it was asked.
    async fn platform<const N: usize>(
        answers: [(u16, &'static str); N],
    ) -> (Platform, impl Future<Output = Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serve = async move {
            let mut asked = Vec::new();
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (head, sent) = request(&mut stream).await;
                asked.push(format!("{} {sent}", head.lines().next().unwrap()));
                let answer = format!(
                    "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nx-amzn-errortype: Denied\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            asked
        };
        (Platform::connect(Some(&url)).await, serve)
    }

    #[tokio::test]
    async fn it_is_done_when_the_platform_says_so() {
        let busy = r#"{"State":"Active","LastUpdateStatus":"InProgress"}"#;
        let done = r#"{"State":"Active","LastUpdateStatus":"Successful"}"#;
        let (platform, serve) = platform([(200, busy), (200, busy), (200, done)]).await;
        let update = platform.update_code("node-007", b"zip!".to_vec());
        let (updated, asked) = tokio::join!(update, serve);
        assert_eq!(updated, Ok(()));
        let path = "PUT /2015-03-31/functions/node-007/code HTTP/1.1";
        assert_eq!(asked[0], format!(r#"{path} {{"ZipFile":"emlwIQ=="}}"#));
        let look = "GET /2015-03-31/functions/node-007/configuration HTTP/1.1 ";
        assert_eq!(asked[1..], [look, look]);
    }

    #[tokio::test]
    async fn what_the_platform_says_is_passed_on() {
        let denied = r#"{"Message":"not authorized to perform: lambda:UpdateFunctionCode"}"#;
        let (denying, serve) = platform([(403, denied)]).await;
        let update = denying.update_code("node-007", Vec::new());
        let (updated, _) = tokio::join!(update, serve);
        assert!(updated.unwrap_err().contains("lambda:UpdateFunctionCode"));
        let failed = r#"{"State":"Active","LastUpdateStatus":"Failed","LastUpdateStatusReason":"bad image"}"#;
        let (failing, serve) = platform([(200, "{}"), (200, failed)]).await;
        let update = failing.update_code("node-007", Vec::new());
        let (updated, _) = tokio::join!(update, serve);
        assert_eq!(updated, Err("bad image".into()));
    }
}
