//! `scatterhoard pool`: tells a running proxy, by its admin port, to add nodes, to drain
//! them, and to let their code be updated one group after the other.

use std::{
    fmt::Write as _,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use clap::{Args, Subcommand};

use super::{Skipped, Status};
use crate::pool::platform::Platform;

/// The admin port answers at once, but for nodes that are added and must be met.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// An answer is no longer than that.
const MAX_ANSWER_BYTES: u64 = 16 << 20;
/// How often it is asked how far a drain is.
const LOOK: Duration = Duration::from_millis(500);

/// `scatterhoard pool`.
#[derive(Args)]
pub struct PoolCommand {
    /// The proxy's admin port
    #[arg(
        id = "admin_port",
        long = "admin",
        env = "SCATTERHOARD_ADMIN",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:9121",
        global = true
    )]
    admin: SocketAddr,
    #[command(subcommand)]
    order: Order,
}

#[derive(Subcommand)]
enum Order {
    /// How many nodes there are, what they hold, and how far drains are
    Status,
    /// Add nodes; their functions must be there, except for a pool on this machine
    Add(Nodes),
    /// Move what nodes hold to others, and then use them no more: the last ones, if
    /// only a number is given
    Drain {
        #[command(flatten)]
        nodes: Nodes,
        /// Evict objects where there is no room for them
        #[arg(long)]
        force: bool,
        /// Return when they are empty
        #[arg(long)]
        wait: bool,
    },
    /// Keep nodes that are being drained: these, or all
    Cancel {
        /// Numbers of nodes
        #[arg(long, value_name = "I,J", value_delimiter = ',')]
        nodes: Vec<u16>,
    },
    /// Drain, update and add again all nodes, group by group: nothing is lost
    Update(Update),
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Nodes {
    /// How many
    count: Option<usize>,
    /// These, by their numbers
    #[arg(long, value_name = "I,J", value_delimiter = ',')]
    nodes: Vec<u16>,
}

#[derive(Args)]
struct Update {
    #[command(flatten)]
    how: How,
    /// Nodes to be updated, by their numbers [default: all that are active]
    #[arg(long, value_name = "I,J", value_delimiter = ',')]
    nodes: Vec<u16>,
    /// Nodes that are drained and updated at the same time
    #[arg(long, value_name = "K", default_value_t = 1)]
    at_once: usize,
    /// Evict objects where there is no room for them
    #[arg(long)]
    force: bool,
    /// With --zip: where the functions are, if not at AWS
    #[arg(long, value_name = "URL", env = "SCATTERHOARD_LAMBDA_ENDPOINT")]
    lambda_endpoint: Option<String>,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct How {
    /// The new code, for Lambda's UpdateFunctionCode, with your own credentials
    #[arg(long, value_name = "FILE")]
    zip: Option<PathBuf>,
    /// A command that updates one function and returns when that is done; it finds its
    /// name in SCATTERHOARD_FUNCTION
    #[arg(long, value_name = "COMMAND")]
    command: Option<String>,
}

impl PoolCommand {
    /// Carries it out, and says what came of it; `say`: on the way.
    ///
    /// # Errors
    /// Why it was not done, and what is to be done now.
    pub fn run(self, mut say: impl FnMut(&str)) -> Result<String, String> {
        let admin = Admin(self.admin);
        match self.order {
            Order::Status => Ok(text_of(&admin.status()?)),
            Order::Add(nodes) => {
                let (nodes, skipped) = admin.order("add", &nodes.query())?;
                let mut text = format!("added: {}", list(&nodes));
                for skipped in skipped {
                    let _ = write!(text, "\nskipped node {}: {skipped}", skipped.node);
                }
                Ok(text)
            }
            Order::Drain { nodes, force, wait } => {
                let query = format!("{}&force={force}", nodes.query());
                let (nodes, _) = admin.order("drain", &query)?;
                if wait {
                    let unreached = admin.until_gone(&nodes, &mut say)?;
                    let mut text = format!("drained: {}", list(&nodes));
                    if !unreached.is_empty() {
                        let list = list(&unreached);
                        let _ = write!(text, "\n{UNREACHED}: {list}");
                    }
                    return Ok(text);
                }
                let text = "draining; `scatterhoard pool status` says how far it is";
                Ok(format!("{text}: {}", list(&nodes)))
            }
            Order::Cancel { nodes } => {
                let query = match nodes.is_empty() {
                    true => String::new(),
                    false => format!("nodes={}", list(&nodes)),
                };
                let (nodes, _) = admin.order("cancel", &query)?;
                Ok(format!("kept: {}", list(&nodes)))
            }
            Order::Update(update) => update.run(&admin, &mut say),
        }
    }
}

impl Nodes {
    fn query(&self) -> String {
        match self.count {
            Some(count) => format!("count={count}"),
            None => format!("nodes={}", list(&self.nodes)),
        }
    }
}

impl Update {
    fn run(&self, admin: &Admin, say: &mut impl FnMut(&str)) -> Result<String, String> {
        let status = admin.status()?;
        if status.draining > 0 {
            return Err("nodes are being drained: wait for their end, or cancel it".into());
        }
        let updater = Updater::new(&self.how, self.lambda_endpoint.as_deref())?;
        let is_meant = |node: u16| self.nodes.is_empty() || self.nodes.contains(&node);
        let active = status.nodes.iter().filter(|n| n.state == "active");
        let chosen: Vec<(u16, String)> = active
            .filter(|n| is_meant(n.node))
            .map(|n| (n.node, n.function.clone()))
            .collect();
        if let Some(other) = self
            .nodes
            .iter()
            .find(|n| chosen.iter().all(|c| c.0 != **n))
        {
            return Err(format!("node {other} is not active"));
        }
        for group in chosen.chunks(self.at_once.max(1)) {
            let nodes: Vec<u16> = group.iter().map(|(node, _)| *node).collect();
            let list = list(&nodes);
            let force = self.force;
            admin.order("drain", &format!("nodes={list}&force={force}"))?;
            say(&format!("draining {list}"));
            // what holds something yet goes with its code
            admin.until_gone(&nodes, say)?;
            let stopped = |why: String| {
                format!(
                    "{why}\nnodes {list} are drained: when their functions are well, `scatterhoard pool add --nodes {list}`"
                )
            };
            for (_, function) in group {
                updater.update(function).map_err(stopped)?;
                say(&format!("{function} is updated"));
            }
            let added = admin.order("add", &format!("nodes={list}"));
            added.map_err(stopped)?;
            say(&format!("added {list} again"));
        }
        Ok(format!("{} functions are updated", chosen.len()))
    }
}

/// How the code of a function is updated.
enum Updater {
    Command(String),
    Zip {
        runtime: tokio::runtime::Runtime,
        platform: Platform,
        zip: Vec<u8>,
    },
}

impl Updater {
    fn new(how: &How, endpoint: Option<&str>) -> Result<Self, String> {
        if let Some(command) = &how.command {
            return Ok(Self::Command(command.clone()));
        }
        let path = how.zip.clone().unwrap_or_default();
        let zip = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().map_err(|e| e.to_string())?;
        let endpoint = endpoint.filter(|url| *url != "aws");
        let platform = runtime.block_on(Platform::connect(endpoint));
        Ok(Self::Zip {
            runtime,
            platform,
            zip,
        })
    }

    fn update(&self, function: &str) -> Result<(), String> {
        match self {
            Self::Command(command) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", command]).stdin(Stdio::null());
                let status = shell.env("SCATTERHOARD_FUNCTION", function).status();
                match status {
                    Ok(status) if status.success() => Ok(()),
                    Ok(status) => Err(format!("{command:?} for {function} failed: {status}")),
                    Err(error) => Err(format!("cannot run {command:?}: {error}")),
                }
            }
            Self::Zip {
                runtime,
                platform,
                zip,
            } => {
                let updated = runtime.block_on(platform.update_code(function, zip.clone()));
                updated.map_err(|why| format!("{function} is not updated: {why}"))
            }
        }
    }
}

/// What the admin port says to an order.
#[derive(serde::Deserialize)]
struct Answer {
    nodes: Vec<u16>,
    #[serde(default)]
    skipped: Vec<Skipped>,
}

/// What is to be done about drained nodes that may hold something.
const UNREACHED: &str = "not all instances were reached, and may hold what they held until the platform takes them; drain these once more, or delete their functions";

/// The admin port of a proxy.
struct Admin(SocketAddr);

impl Admin {
    fn status(&self) -> Result<Status, String> {
        let body = self.ask("GET", "/pool")?;
        serde_json::from_str(&body).map_err(|e| format!("not a status: {e}: {body}"))
    }

    /// Gives an order; the nodes that it is about, and those that were left out.
    fn order(&self, what: &str, query: &str) -> Result<(Vec<u16>, Vec<Skipped>), String> {
        let body = self.ask("POST", &format!("/pool/{what}?{query}"))?;
        let answer = serde_json::from_str::<Answer>(&body);
        let answer = answer.map_err(|error| format!("not an answer: {error}: {body}"))?;
        Ok((answer.nodes, answer.skipped))
    }

    /// Returns when these nodes are empty, so far as is known; those that may hold
    /// something yet.
    fn until_gone(&self, nodes: &[u16], say: &mut impl FnMut(&str)) -> Result<Vec<u16>, String> {
        let mut said = String::new();
        loop {
            let status = self.status()?;
            let (mut left, mut unreached) = (0, Vec::new());
            for node in status.nodes.iter().filter(|n| nodes.contains(&n.node)) {
                match node.state.as_str() {
                    "gone" => {}
                    "unreached" => unreached.push(node.node),
                    "draining" => left += 1,
                    state => return Err(format!("node {} is {state} again", node.node)),
                }
            }
            if left == 0 {
                return Ok(unreached);
            }
            let text = progress(&status);
            if text != said {
                say(&text);
                said = text;
            }
            #[allow(
                clippy::disallowed_methods,
                reason = "a program of its own, which has nothing else to do"
            )]
            std::thread::sleep(LOOK);
        }
    }

    /// The body of a good answer.
    fn ask(&self, method: &str, path: &str) -> Result<String, String> {
        let failed = |error: std::io::Error| {
            let address = self.0;
            format!("no answer from the admin port at {address} ({error}); is --admin right?")
        };
        let mut stream = TcpStream::connect_timeout(&self.0, ANSWER_LIMIT).map_err(failed)?;
        stream
            .set_read_timeout(Some(ANSWER_LIMIT))
            .map_err(failed)?;
        stream
            .set_write_timeout(Some(ANSWER_LIMIT))
            .map_err(failed)?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            self.0
        );
        stream.write_all(request.as_bytes()).map_err(failed)?;
        let mut answer = Vec::new();
        let mut bounded = stream.take(MAX_ANSWER_BYTES);
        bounded.read_to_end(&mut answer).map_err(failed)?;
        body_of(&String::from_utf8_lossy(&answer))
    }
}

/// The body of an answer; what it says if it is not a good one.
fn body_of(answer: &str) -> Result<String, String> {
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or("the admin port's answer is cut off")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    match status {
        "200" => Ok(body.to_owned()),
        "404" => Err("nothing of that kind at this admin port: is it an older proxy?".into()),
        _ => Err(body.trim_end().to_owned()),
    }
}

fn list(nodes: &[u16]) -> String {
    let nodes: Vec<String> = nodes.iter().map(u16::to_string).collect();
    nodes.join(",")
}

/// How far drains are, in one line.
fn progress(status: &Status) -> String {
    let chunks: usize = status.nodes.iter().filter_map(|n| n.chunks_left).sum();
    let bytes: u64 = status.nodes.iter().filter_map(|n| n.bytes_left).sum();
    let mut text = format!("{chunks} chunks, {} left", megabytes(bytes));
    if status.without_room > 0 {
        let _ = write!(text, "; {} find no room", status.without_room);
    }
    text
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn text_of(status: &Status) -> String {
    let percent = match status.budget_bytes {
        0 => 0.0,
        budget => 100.0 * status.held_bytes as f64 / budget as f64,
    };
    let mut text = format!(
        "{} nodes active, {} draining; {} of {} used ({percent:.0} %)\n",
        status.active,
        status.draining,
        megabytes(status.held_bytes),
        megabytes(status.budget_bytes),
    );
    if status.draining > 0 {
        let _ = writeln!(text, "{}", progress(status));
    }
    for node in &status.nodes {
        let _ = write!(
            text,
            "{:>5}  {:<9} {}",
            node.node, node.state, node.function
        );
        if node.state == "active" || node.state == "draining" {
            let _ = write!(text, "  {}", megabytes(node.held_bytes));
        }
        if let (Some(chunks), Some(bytes)) = (node.chunks_left, node.bytes_left) {
            let _ = write!(text, ", to be moved: {chunks} chunks, {}", megabytes(bytes));
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_body_or_what_is_wrong() {
        let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(body_of(ok), Ok("{}".into()));
        let refused = "HTTP/1.1 409 Conflict\r\na: b\r\n\r\n11 nodes would be left\n";
        assert_eq!(body_of(refused), Err("11 nodes would be left".into()));
        assert!(body_of("HTTP/1.1 404 Not Found\r\n\r\n").is_err());
        assert!(body_of("HTTP/1.1 200 OK\r\n").is_err() && body_of("").is_err());
    }
}
