use clap::Parser;

use super::*;
use crate::availability::population::generate;
use crate::trace::Trace;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn parse(line: &str) -> Args {
    Cli::parse_from(line.split_whitespace()).args
}

fn played(line: &str, trace: &Trace) -> Outcome {
    let pool = parse(line).pool;
    let story = pool.story(trace);
    let settings = pool.settings(story.hours, Architecture::X86).unwrap();
    let pattern = pool.pattern().unwrap();
    play(&pool, &story, &pattern, &settings, 0).unwrap()
}

const POOL: &str = "x --pure --nodes 30 --memory-mb 256 --seeds 1";

#[test]
fn a_pool_that_loses_little_hits_what_an_lru_of_its_size_hits() {
    let trace = story::of_gets(&generate(6.0, 4));
    let o = played(POOL, &trace);
    // one pair an hour is lost, which parity bears
    let quiet = played(&format!("{POOL} --day one-node"), &trace);
    assert!(quiet.tally.evicted > 0.0, "it must be too small");
    assert!(
        (quiet.hit_ratio - quiet.lru_hit_ratio).abs() < 0.02,
        "{} {}",
        quiet.hit_ratio,
        quiet.lru_hit_ratio
    );
    assert_eq!(quiet.tally.resets, 0.0);
    assert!(quiet.hit_ratio > 0.3);
    let stored = quiet.tally.held_bytes_at_end / 1e9;
    let capacity = quiet.pool.capacity_gb;
    assert!((0.8 * capacity..=capacity).contains(&stored), "{stored}");
    assert_eq!(o.lru_hit_ratio, quiet.lru_hit_ratio);
    let accounted = o.tally.hits + o.tally.stores + o.tally.too_large + o.tally.refused;
    assert_eq!(accounted, o.tally.gets, "each is one or the other");
}

#[test]
fn without_standbys_and_parity_losses_are_resets() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("reclaims.json");
    // every tenth minute takes a quarter of all instances
    let days = r#"{"days": {"2020-01-01": {"pmf": {"0": 0.9, "100": 0.1}, "timeline": {}}}}"#;
    std::fs::write(&file, days).unwrap();
    let rough = format!("{POOL} --day 2020-01-01 --reclaims {}", file.display());
    let trace = story::of_gets(&generate(6.0, 4));
    let bare = format!("{rough} --backup-interval-s 0");
    let (bare, defaults) = (played(&bare, &trace), played(&rough, &trace));
    assert!(bare.tally.resets > defaults.tally.resets);
    assert!(bare.hit_ratio < defaults.hit_ratio && bare.hit_ratio < bare.lru_hit_ratio);
    assert!(bare.reset_share_of_hits > 0.01);
    // a node that lost something is looked at without one, too
    assert!(bare.bills.backup.gb_s < 0.1 * defaults.bills.backup.gb_s);
    assert!(bare.bills.repair.gb_s > defaults.bills.repair.gb_s);
}

#[test]
fn what_is_read_and_written_is_billed_by_its_bytes() {
    let big = |bytes: u64| Trace {
        keys: vec!["a".into()],
        requests: [0.0, 60.0]
            .map(|at_s| crate::trace::Request {
                at_s,
                op: crate::trace::Op::Get,
                key: 0,
                bytes,
            })
            .to_vec(),
        skipped: 0,
    };
    let line = format!("{POOL} --day one-node --backup-interval-s 0 --function-mb-s 50");
    let o = played(&line, &big(100_000_000));
    assert_eq!(o.bills.serve.invocations, 22.0);
    assert_eq!((o.tally.hits, o.tally.stores), (1.0, 1.0));
    assert_eq!(o.proxy_gb, [0.2, 0.22]);
    // 12 nodes take 10 MB each, 10 of them give them back; 2 ms before and at least 10 ms
    // after, by the gaps that were seen
    let gb_s = |seconds: f64| (12.0 + 10.0) * (seconds + 0.012) * 0.25;
    let served = o.bills.serve.gb_s;
    assert!((1.0..1.1).contains(&(served / gb_s(0.2))), "{served}");
    // through a proxy of 50 MB/s it takes ten times as long, and longer for parity
    let slow = played(&format!("{line} --proxy-mb-s 50"), &big(100_000_000));
    let more = slow.bills.serve.gb_s - served;
    let expected = (12.0 * 2.2 + 10.0 * 1.8) * 0.25;
    assert!((more / expected - 1.0).abs() < 0.03, "{more}");
    let large = played(&line, &big(600_000_000));
    assert_eq!((large.tally.too_large, large.hit_ratio), (2.0, 0.0));
}

#[test]
fn a_quick_replay_says_everything() {
    let folder = tempfile::tempdir().unwrap();
    let mut args = parse("x --pure --quick --seeds 1 --nodes 20 --seed 8");
    args.output.json = Some(folder.path().join("out.json"));
    args.output.plot = Some(folder.path().to_owned());
    run(args).unwrap();
    let json = std::fs::read(folder.path().join("out.json")).unwrap();
    let outcome: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(outcome["pool"]["nodes"], 20);
    assert_eq!(outcome["seeds"], serde_json::json!([8, 9]));
    assert!(outcome["hit_ratio"].as_f64().unwrap() > 0.1);
    assert!(outcome["bills"]["serve"]["gb_s"].as_f64().unwrap() > 0.0);
    let drawn = std::fs::read_to_string(folder.path().join("replay-invocations.svg"));
    assert!(drawn.unwrap().contains(">backup<"));
    assert!(folder.path().join("replay-shares.svg").is_file());
    let error = run(parse("x --pure")).unwrap_err().to_string();
    assert!(error.contains("--trace FILE is needed"), "{error}");
}
