//! The control API over plain HTTP, and the program.

use crate::support::{client, function, invoke, is_dead, pid, state, until, world};
use local_lambda::Settings;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// One exchange; no HTTP client of ours has a say in it.
fn http(endpoint: &str, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let address = endpoint.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let body = body.map(Value::to_string);
    let kind = if body.is_some() {
        "content-type: application/json\r\n"
    } else {
        ""
    };
    let body = body.unwrap_or_default();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{kind}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_can_be_steered_over_http() {
    let w = world(Settings::default(), []).await;
    let endpoint = w.lambda.endpoint_url();
    let ask = |method: &str, path: &str, body: Option<Value>| {
        http(&endpoint, method, path, body.as_ref())
    };
    let config = serde_json::to_value(function("f")).unwrap();
    assert_eq!(
        ask("PUT", "/_local/functions/f", Some(config.clone())).0,
        204
    );
    assert_eq!(
        ask("PUT", "/_local/functions/g", Some(config.clone())).0,
        400
    );
    assert_eq!(ask("GET", "/_local/functions", None).1, json!([config]));
    let process = w.echo("f").await;
    let (status, list) = ask("GET", "/_local/instances", None);
    assert_eq!(
        (status, &list[0]["pid"], &list[0]["state"]),
        (200, &json!(process), &json!("idle"))
    );
    assert_eq!(list[0]["frozen"], true);
    assert_eq!(ask("GET", "/_local/ledger", None).1["total"]["requests"], 1);

    assert_eq!(
        ask(
            "PUT",
            "/_local/faults",
            Some(json!({"down": "service-exception"}))
        )
        .0,
        204
    );
    assert!(w.invoke("f", json!({})).await.is_err());
    assert_eq!(
        ask("GET", "/_local/faults", None).1["down"],
        "service-exception"
    );
    assert_eq!(ask("PUT", "/_local/faults", Some(json!({"up": 1}))).0, 400);
    assert_eq!(ask("PUT", "/_local/faults", Some(json!({}))).0, 204);

    let taken = ask("POST", "/_local/reclaim", Some(json!({"function": "f"}))).1;
    assert_eq!(taken, json!([list[0]["id"]]));
    until("reclaimed", || state(process).is_none()).await;
    w.echo("f").await;
    let process = json!({"pmf": {"0": 1.0}, "scale": 0.5, "minute_s": 0.05});
    let policy = json!({"schedule": [{"after_s": 0.01}], "process": process});
    assert_eq!(
        ask("PUT", "/_local/reclaim-policy", Some(policy.clone())).0,
        204
    );
    assert_eq!(
        ask("GET", "/_local/reclaim-policy", None).1["schedule"][0]["after_s"],
        0.01
    );
    until("by schedule", || w.handle.instances().is_empty()).await;

    assert_eq!(ask("DELETE", "/_local/functions/f", None).0, 204);
    assert_eq!(ask("DELETE", "/_local/functions/f", None).0, 404);
    assert_eq!(
        ask("POST", "/_local/reclaim", None).0,
        415,
        "an order without its content type"
    );
    assert_eq!(ask("GET", "/_local/nothing", None).0, 404);
    assert_eq!(ask("GET", "/2015-03-31/functions", None).0, 404);
    w.stop().await;
}

/// The program, killed when a test fails.
pub(crate) struct Served {
    pub(crate) child: Child,
    pub(crate) endpoint: String,
    _folder: tempfile::TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn serve(count: usize) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let text = format!(
        "[platform]\nlisten = '127.0.0.1:0'\n[[functions]]\nname = 'n'\ncount = {count}\nprogram = '{}'\n",
        crate::support::program().display()
    );
    std::fs::write(&file, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_local-lambda"))
        .args(["serve", "--config"])
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut endpoint = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut endpoint)
        .unwrap();
    Served {
        child,
        endpoint: endpoint.trim().to_owned(),
        _folder: folder,
    }
}

fn ask(endpoint: &str, command: &[&str]) -> String {
    let program = env!("CARGO_BIN_EXE_local-lambda");
    let output = Command::new(program)
        .args(command)
        .args(["--endpoint", endpoint])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_serves_answers_questions_and_ends_cleanly() {
    let mut served = serve(3);
    let sdk = client(&served.endpoint);
    let mut pids = Vec::new();
    for name in ["n-000", "n-002"] {
        pids.push(pid(&invoke(&sdk, name, json!({"do": "echo"}))
            .await
            .unwrap()));
    }
    let list = ask(&served.endpoint, &["instances"]);
    assert!(
        list.contains("n-002") && list.contains(&pids[1].to_string()),
        "{list}"
    );
    assert!(
        ask(&served.endpoint, &["ledger"])
            .lines()
            .last()
            .unwrap()
            .starts_with("TOTAL")
    );
    assert_eq!(
        ask(&served.endpoint, &["reclaim", "--function", "n-000"])
            .lines()
            .count(),
        1
    );
    until("reclaimed", || state(pids[0]).is_none()).await;
    Command::new("kill")
        .arg(served.child.id().to_string())
        .status()
        .unwrap();
    assert!(served.child.wait().unwrap().success());
    assert!(is_dead(pids[1]));
}
