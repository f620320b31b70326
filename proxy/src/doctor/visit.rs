//! Has a node dial this machine, as it would for a link, and sends it home.

use std::{io, net::SocketAddr, time::Duration};

use scatterhoard_node::{conduit::Acceptor, random};
use scatterhoard_wire::{
    Epoch, InvocationId, NodeId, SPOKEN, Token,
    invoke::{Ending, Invocation, Purpose, Report},
};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    checks::advice::Finding,
    config::{Config, Functions},
    pool::{link_tls, link_tls::leaves_the_machine, listener, platform::Platform},
};

/// A cold start, and a try to connect.
const PING_LIMIT: Duration = Duration::from_secs(20);
/// A node gives up to dial before.
const VISIT_LIMIT: Duration = Duration::from_secs(30);
/// Who was here is noted within this.
const DOOR_LIMIT: Duration = Duration::from_secs(1);
/// More who dial than this are not looked at at once.
const MOST_GUESTS: usize = 16;
const CHECK: &str = "links";

/// What can be told of the address without trying.
pub(super) fn where_nodes_dial(config: &Config, address: SocketAddr) -> Option<Finding> {
    if config.functions != Functions::Aws {
        return None;
    }
    if !leaves_the_machine(address.ip()) || address.ip().is_unspecified() {
        return Some(Finding::error(
            CHECK,
            format!("functions on AWS would dial {address}, which is not this machine for them"),
            "set --link-listen to 0.0.0.0:PORT and --link-advertise to this machine's private address",
        ));
    }
    (config.link_listen.port() == 0).then(|| {
        Finding::warning(
            CHECK,
            "the link port is another one at each start: no security group can name it",
            "set the port of --link-listen and --link-advertise",
        )
    })
}

/// Invokes a function so that it says how it is, and again so that it dials.
pub(super) async fn visit(
    config: &Config,
    platform: &Platform,
    function: &str,
    listener: TcpListener,
    address: SocketAddr,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let tls = match config.link_tls.then(link_tls::new_certificate).transpose() {
        Ok(tls) => tls,
        Err(error) => {
            return vec![Finding::error(
                CHECK,
                format!("no certificate: {error}"),
                "see the message",
            )];
        }
    };
    let token = Token(random::random());
    let mut invocation = Invocation {
        speaks: SPOKEN,
        purpose: Purpose::Warm,
        proxy: address,
        token,
        certificate: tls.as_ref().map(Acceptor::fingerprint),
        node: NodeId(0),
        invocation: InvocationId(0),
        // below every proxy's: it answers all the same, and is nobody's
        epoch: Epoch(0),
        linger_ms: 1,
        deadline_margin_ms: 10_000,
    };
    let report = match run(platform, function, &invocation, PING_LIMIT).await {
        Ok(report) => report,
        Err(finding) => return vec![finding],
    };
    findings.push(Finding::ok(
        "node",
        format!(
            "{function} runs a node of this release or the next to it, with room for {} MB (it speaks versions {}, this proxy {SPOKEN})",
            report.budget_bytes >> 20,
            report.speaks,
        ),
    ));
    invocation.purpose = Purpose::Serve;
    // as its own proxy, if it has one: a lower one is turned away
    invocation.epoch = report.highest_epoch;
    let end = Instant::now() + VISIT_LIMIT;
    let mut reception = std::pin::pin!(receive(&listener, tls.as_ref(), token));
    let mut called = std::pin::pin!(run(platform, function, &invocation, VISIT_LIMIT));
    let met = tokio::select! {
        biased;
        peer = &mut reception => {
            // the report would only say that it was sent home
            let _ = timeout_at(end, &mut called).await;
            Some(peer)
        }
        answer = &mut called => {
            // a node that was just turned away may be back before its door is shut
            match timeout(DOOR_LIMIT, &mut reception).await {
                Ok(peer) => Some(peer),
                Err(_) => {
                    findings.push(unmet(function, address, answer));
                    None
                }
            }
        }
    };
    if let Some(peer) = met {
        findings.push(match peer {
            Ok(peer) => Finding::ok(
                CHECK,
                format!("{function} reaches {address}, from {}", peer.ip()),
            ),
            Err(error) => Finding::error(
                CHECK,
                format!("cannot accept connections: {error}"),
                "see the message",
            ),
        });
    }
    findings
}

/// The function has returned, or could not be run, and nobody had dialled.
fn unmet(function: &str, address: SocketAddr, answer: Result<Report, Finding>) -> Finding {
    let report = match answer {
        Ok(report) => report,
        Err(finding) => return finding,
    };
    let what = match report.ending {
        Ending::Unreachable => format!("{function} runs, but cannot connect to {address}"),
        Ending::LinkLost => format!("{function} connects to {address}, and the connection breaks"),
        Ending::Rejected => format!("{function} meets somebody else at {address}"),
        Ending::StaleEpoch => format!("{function} has met a later proxy meanwhile"),
        _ => format!("{function} returned without a connection to {address}"),
    };
    Finding::error(
        CHECK,
        what,
        format!(
            "let TCP {} in from the functions' security group, put the functions into the proxy's VPC, and set --link-advertise to the address by which they reach this machine",
            address.port()
        ),
    )
}

async fn run(
    platform: &Platform,
    function: &str,
    invocation: &Invocation,
    limit: Duration,
) -> Result<Report, Finding> {
    match timeout(limit, platform.invoke(function, invocation)).await {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(failure)) => {
            let fix = failure.fix().unwrap_or(
                "see the function's log; deploy the node's zip of this release and of the function's architecture, with enough memory",
            );
            Err(Finding::error(
                "node",
                format!("{function}: {failure}"),
                fix,
            ))
        }
        Err(_) => Err(Finding::error(
            "node",
            format!("{function} did not return within {} s", limit.as_secs()),
            "see the function's log: is it a node?",
        )),
    }
}

/// Waits for the hello with this token, and turns its node away.
async fn receive(
    listener: &TcpListener,
    tls: Option<&Acceptor>,
    token: Token,
) -> io::Result<SocketAddr> {
    let mut guests = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(met) = guests.join_next() => {
                if let Ok(Some((hello_token, peer))) = met && hello_token == token {
                    return Ok(peer);
                }
            }
            accepted = listener.accept(), if guests.len() < MOST_GUESTS => {
                let (stream, peer) = accepted?;
                let tls = tls.cloned();
                guests.spawn(async move {
                    let hello = listener::turn_away(tls.as_ref(), stream, "only a visit");
                    hello.await.ok().map(|hello| (hello.token, peer))
                });
            }
        }
    }
}
