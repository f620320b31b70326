use clap::Parser;
use scatterhoard_proxy::config::{Config, Options};

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn parse(line: &str) -> Args {
    Cli::parse_from(line.split_whitespace()).args
}

#[test]
fn lists_multiply() {
    let args = parse("x --day two-hours,one-node --geometry 10+1,20+4 --correlation 0,0.5,1");
    let (cases, scripts) = args.cases().unwrap();
    assert_eq!((cases.len(), scripts.len()), (12, 2));
    let last = &cases[11].settings;
    assert_eq!((last.data, last.parity, last.correlation), (20, 4, 1.0));
    assert!(cases[11].reading.is_none());
    assert!(parse("x --day two-hours --correlation 2").cases().is_err());
    assert!(parse("x --day 2019-12-26").cases().is_err(), "no file");
}

#[test]
fn the_study_plays_what_the_proxy_does_unless_told_otherwise() {
    let options = Options {
        lambda_endpoint: Some("http://127.0.0.1:1".into()),
        ..Options::default()
    };
    let proxy = Config::from_options(options).unwrap();
    let studied = parse("x --day two-hours").settings().unwrap();
    let [studied] = &studied[..] else {
        panic!("lists of one value each");
    };
    let rate = |bytes_per_s: Option<std::num::NonZeroU64>| bytes_per_s.map_or(0, |r| r.get());
    assert_eq!(studied.repair_bytes_per_s, rate(proxy.repair_bytes_per_s));
    assert_eq!(studied.backup_bytes_per_s, rate(proxy.backup_bytes_per_s));
    assert_eq!(studied.backup, proxy.backup);
    assert_eq!(studied.warmth, proxy.warmth);
    assert_eq!(studied.retire, proxy.retire);
}

#[test]
fn a_quick_study_plays_prints_and_draws() {
    let folder = tempfile::tempdir().unwrap();
    let line = "x --quick --day two-hours --nodes 60 --backup-interval-s 0,60 --per-hour --seed 5";
    let mut args = parse(line);
    args.output.plot = Some(folder.path().to_owned());
    args.output.json = Some(folder.path().join("out.json"));
    let study = args.study(&Watch::new().unwrap()).unwrap();
    args.output.publish(&study).unwrap();
    let text = study.text(true);
    assert!(text.starts_with("| pattern |") && text.contains("- seeds 5 to 6\n"));
    let json = std::fs::read(folder.path().join("out.json")).unwrap();
    let outcomes: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let worst = |i: usize| outcomes[i]["worst_hour_available"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&worst(0)) && worst(0) <= worst(1));
    assert!(outcomes[1]["usd_per_hour"].as_f64().unwrap() > 0.0);
    assert!(outcomes[1]["hits_lost_share"].is_f64());
    assert_eq!(outcomes[0]["played_seeds"], serde_json::json!([5, 6]));
    assert_eq!(outcomes[1]["hours"].as_array().unwrap().len(), 2);
    let drawn = std::fs::read_to_string(folder.path().join("availability-cost.svg"));
    assert!(drawn.unwrap().contains("no backup"));
}
