//! Most nodes fail at the same time: it is told once, with what to do, and it is over as
//! soon as they answer, whether or not anybody asks for what they hold.

use std::time::Duration;

use redis::Commands;

use crate::{
    aws::{Aws, Refused},
    bad_days::arguments,
    contents::{Random, assert_same},
    server::{Server, free_address, until},
};

const SOON: Duration = Duration::from_secs(90);

/// Until the proxy says that it is so; each try to store comes after all links were let go.
fn until_outage(server: &Server) {
    let (mut redis, value) = (server.client(), Random::new(8).bytes(300_000));
    until("outage", SOON, || {
        let _ = redis.set::<_, _, ()>("during", &value);
        std::thread::sleep(Duration::from_secs(3));
        server.metric("scatterhoard_outage") > 0.0
    });
}

/// What `/healthz` says, with its status.
fn health_of(server: &Server) -> String {
    server.admin_answers("GET", "/healthz", "host: localhost")
}

#[test]
fn a_zone_that_is_out_is_one_message_and_over_by_itself() {
    let aws = Aws::start(6);
    let server = Server::start(&arguments(&aws.url(), &[]));
    let (mut redis, value) = (server.client(), Random::new(7).bytes(300_000));
    let () = redis.set("before", &value).unwrap();
    assert_eq!(server.metric("scatterhoard_outage"), 0.0);
    for i in 0..5 {
        let message = "Lambda received an unexpected EC2 client exception while setting up.";
        let refused = Refused::new(502, "EC2UnexpectedException", message);
        aws.state().invokes.insert(format!("-{i:03}"), refused);
    }
    until_outage(&server);
    until("all of them", SOON, || {
        server.metric("scatterhoard_nodes_failing") == 5.0
    });
    let health = health_of(&server);
    for words in [
        "HTTP/1.1 503",
        "degraded: 1 of 6 nodes reachable",
        "5 of 6 nodes fail: EC2 failed while Lambda set up the function's network; to do: wait",
        "the zone or Lambda in it is out: see the AWS Health Dashboard",
        "begin a pool in another zone",
    ] {
        assert!(health.contains(words), "{words} not in {health}");
    }
    let metrics = server.admin("GET", "/metrics");
    let series = "scatterhoard_outages_total{cause=\"ec2_failed\"} 1";
    assert!(metrics.contains(series), "{metrics}");
    let log = server.log();
    assert_eq!(log.matches("outage: ").count(), 1, "{log}");
    aws.refuse_invokes(None);
    until("over", SOON, || server.metric("scatterhoard_outage") == 0.0);
    assert!(server.log().contains("the outage is over"));
    let health = health_of(&server);
    assert!(!health.contains("outage"), "{health}");
    let read: Option<Vec<u8>> = redis.get("before").unwrap();
    assert_same("before", read.as_deref(), &value);
    server.stop();
}

#[test]
fn a_link_port_that_was_closed_is_named() {
    let aws = Aws::start(6);
    let closed = free_address().to_string();
    // pings go well all the time: they do not dial
    let server = Server::start(&arguments(&aws.url(), &["--link-advertise", &closed]));
    until_outage(&server);
    let health = health_of(&server);
    for words in [
        "cannot connect to the proxy's link port",
        "in from the functions' security group",
        "scatterhoard doctor",
    ] {
        assert!(health.contains(words), "{words} not in {health}");
    }
    let log = server.log();
    assert!(log.contains(&closed), "{log}");
    server.stop();
}

#[test]
fn credentials_that_expire_are_named_by_the_health_page_too() {
    let aws = Aws::start(6);
    let server = Server::start(&arguments(&aws.url(), &[]));
    aws.refuse_all(Some(Refused::expired()));
    until_outage(&server);
    let health = health_of(&server);
    let words = "nodes fail: the AWS credentials have expired; to do: renew them";
    assert!(health.contains(words), "{health}");
    // nobody's zone is blamed for it
    assert!(!health.contains("zone"), "{health}");
    server.stop();
}
