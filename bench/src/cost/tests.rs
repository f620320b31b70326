use clap::Parser;
use serde_json::Value;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn parse(line: &str) -> Args {
    Cli::parse_from(line.split_whitespace()).args
}

fn json(line: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let mut args = parse(line);
    args.json = Some(folder.path().join("out.json"));
    args.plot = Some(folder.path().to_owned());
    run(args).unwrap();
    let drawn = std::fs::read_to_string(folder.path().join("cost-rate.svg")).unwrap();
    assert!(drawn.contains("elasticache serverless"));
    serde_json::from_slice(&std::fs::read(folder.path().join("out.json")).unwrap()).unwrap()
}

#[test]
fn a_quick_calculation_says_everything() {
    let said = json("x --quick --seeds 2 --nodes 20 --arch x86_64");
    let number = |path: &str| said.pointer(path).and_then(Value::as_f64).unwrap();
    assert_eq!((&said["arch"], number("/hours")), (&"x86_64".into(), 3.0));
    assert!(
        said["pool"]
            .as_str()
            .unwrap()
            .contains("20 nodes of 320 MiB")
    );
    let purposes = said["usd_by_purpose"].as_object().unwrap();
    let sum: f64 = purposes.values().filter_map(Value::as_f64).sum();
    assert!((sum - number("/total_usd")).abs() < 1e-9);
    assert!(number("/usd_by_purpose/proxy") > 0.0);
    assert!(number("/usd_by_purpose/serve") > 0.0);
    assert!(number("/hit_ratio") > 0.1 && number("/reset_share_of_hits") < 0.1);
    assert_eq!(said["peers"].as_array().unwrap().len(), 9);
    let (arm, x86) = (&said["architectures"][0], &said["architectures"][1]);
    assert_eq!(
        (&arm["arch"], &x86["arch"]),
        (&"arm64".into(), &"x86_64".into())
    );
    assert_eq!(x86["total_usd"], said["total_usd"]);
    assert!(arm["usd_by_purpose"]["backup"].as_f64() < x86["usd_by_purpose"]["backup"].as_f64());
    assert_eq!(said["architectures"][2]["proxy_machine"]["arch"], "arm64");
    // what was simulated and what the formulas make of its mean hour
    let simulated = number("/total_usd") - number("/usd_by_purpose/proxy");
    let ratio = number("/formula_usd") / simulated;
    assert!((0.75..1.25).contains(&ratio), "{ratio}");
    assert!(
        said["unchecked_prices"]
            .as_array()
            .unwrap()
            .contains(&"s3.get".into())
    );
    assert!(!said["recommendation"].as_array().unwrap().is_empty());
}

#[test]
fn a_described_workload_is_put_into_formulas() {
    let line = "x --stored-gb 100 --object-mb 50 --gets-per-hour 700 --sets-per-hour 250";
    let said = json(&format!("{line} --cross-zone-share 0.5 --backing-store"));
    assert!(said["hit_ratio"].is_null() && said["replay"].is_null());
    let number = |path: &str| said.pointer(path).and_then(Value::as_f64).unwrap();
    // in: 950 objects of 50 MB and what is copied; half of in and out, at two cents
    assert!(number("/usd_by_purpose/cross_zone") > 950.0 * 0.05 * 0.02);
    // 6 parts each, and two more requests
    assert!(number("/usd_by_purpose/backing_store") > 250.0 * 8.0 * 5e-6);
    let more = json(&line.replace("700", "700000"));
    assert!(more["total_usd"].as_f64() > said["total_usd"].as_f64());
}

#[test]
fn small_hot_objects_at_high_rates_are_not_for_us() {
    let line = "x --stored-gb 10 --object-mb 0.001 --gets-per-hour 100000000";
    let said = json(line);
    let first = said["recommendation"][0].as_str().unwrap();
    assert!(first.starts_with("Do not use Scatterhoard"), "{first}");
    let large = json("x --stored-gb 100 --object-mb 50 --gets-per-hour 100");
    let first = large["recommendation"][0].as_str().unwrap();
    assert!(!first.starts_with("Do not"), "{first}");
}

#[test]
fn bad_input_is_told() {
    let error = |line: &str| run(parse(line)).unwrap_err().to_string();
    for (line, expected) in [
        ("x", "--trace FILE is needed"),
        ("x --quick --cross-zone-share 2", "a share of 1"),
        (
            "x --stored-gb 0 --object-mb 1 --gets-per-hour 1",
            "more than 0",
        ),
        ("x --quick --peak 0.5", "1 or more"),
        ("x --quick --memory-mb 64", "as on Lambda"),
        ("x --quick --nodes 11", "too few"),
        ("x --quick --proxy-machine z9.huge", "ec2.types.z9.huge"),
        ("x --quick --day 2019-12-26", "--reclaims FILE is needed"),
        (
            "x --stored-gb 1e9 --object-mb 1 --gets-per-hour 1",
            "do not fit",
        ),
    ] {
        assert!(error(line).contains(expected), "{line}: {}", error(line));
    }
    assert!(Cli::try_parse_from(["x", "--stored-gb", "1"]).is_err());
}
