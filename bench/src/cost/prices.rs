//! The price file. What a calculation asks for and the file lacks is named; what
//! the file calls RECALLED was never checked, and every result that uses it says so.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use local_lambda::Architecture;
use serde::Serialize;
use serde_json::Value;

/// The file that is used unless another is named: us-east-1, November 2026.
const SHIPPED: &str = include_str!("../../prices/us-east-1.json");
const MARK: &str = "_RECALLED";

/// Sections that price files have only lately: where one is missing as a whole, and the
/// region is the same, the shipped file's is taken, and the output says so.
const LATELY: [&str; 4] = ["cloudwatch", "cloudwatch_logs", "vpc", "ebs"];
const SHIPPED_NAME: &str = "bench/prices/us-east-1.json";

/// Prices of a dated file.
pub(crate) struct PriceFile {
    name: String,
    all: Value,
    shipped: Value,
    /// Sections that were asked for anything.
    used: RefCell<BTreeSet<String>>,
    /// What this file lacks, and the shipped one has.
    borrowed: RefCell<BTreeSet<String>>,
    /// Those in use that nobody checked.
    unchecked: RefCell<BTreeSet<String>>,
}

/// A machine that can be rented.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) usd_h: f64,
    pub(crate) baseline_mb_s: f64,
    /// Of its own NVMe; 0 if it has none.
    pub(crate) nvme_gb: f64,
    pub(crate) arch: Architecture,
}

/// Where the prices of a section are from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Source {
    pub(crate) section: String,
    /// As of when, if the file says so.
    pub(crate) date: Option<String>,
    pub(crate) source: String,
}

impl PriceFile {
    pub(crate) fn read(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            return Self::parse(SHIPPED_NAME.into(), SHIPPED);
        };
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        Self::parse(shown, &text)
    }

    pub(crate) fn parse(name: String, text: &str) -> Result<Self> {
        let all = serde_json::from_str(text).with_context(|| format!("{name} is no JSON"))?;
        let shipped = serde_json::from_str(SHIPPED).context(SHIPPED_NAME)?;
        Ok(Self {
            name,
            all,
            shipped,
            used: RefCell::default(),
            borrowed: RefCell::default(),
            unchecked: RefCell::default(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn region(&self) -> &str {
        self.all["region"].as_str().unwrap_or("an unnamed region")
    }

    /// What was used so far and was never checked.
    pub(crate) fn unchecked(&self) -> Vec<String> {
        self.unchecked.borrow().iter().cloned().collect()
    }

    /// What was taken from the shipped file.
    pub(crate) fn borrowed(&self) -> Vec<String> {
        self.borrowed.borrow().iter().cloned().collect()
    }

    /// What the file says of where the prices are from that were used, section by section.
    pub(crate) fn sources(&self) -> Vec<Source> {
        let sections = self.all.as_object().into_iter().flatten();
        let used = self.used.borrow();
        let is_used = |name: &str| used.contains(name.trim_end_matches(MARK));
        let priced = sections.filter(|(name, v)| v.is_object() && is_used(name));
        let source = |(name, section): (&String, &Value)| {
            let text = |what: &str| section[what].as_str().map(str::to_owned);
            let recalled = match name.ends_with(MARK) {
                true => "recalled, not checked",
                false => "the file names no source",
            };
            Source {
                section: name.trim_end_matches(MARK).trim_end_matches('_').to_owned(),
                date: text("date"),
                source: text("source").unwrap_or_else(|| recalled.into()),
            }
        };
        priced.map(source).collect()
    }

    /// The shipped file, for a section that this one lacks.
    fn lender(&self, path: &[&str]) -> Option<&Value> {
        let section = path.first().filter(|s| LATELY.contains(s))?;
        let is_same_region = self.all["region"] == self.shipped["region"];
        (is_same_region && self.all.get(section).is_none()).then_some(&self.shipped)
    }

    /// What is at a path of names; one that ends in RECALLED will do.
    fn find(&self, path: &[&str]) -> Option<&Value> {
        let section = path.first().map(|s| (*s).to_owned());
        self.used.borrow_mut().extend(section);
        let lender = self.lender(path);
        if lender.is_some() {
            self.borrowed.borrow_mut().insert(path.join("."));
        }
        let (mut at, mut is_checked) = (lender.unwrap_or(&self.all), true);
        for part in path {
            at = match at.get(part) {
                Some(found) => found,
                None => {
                    is_checked = false;
                    at.get(format!("{part}{MARK}"))?
                }
            };
        }
        if !is_checked {
            self.unchecked.borrow_mut().insert(path.join("."));
        }
        Some(at)
    }

    /// A price, or an error that names it.
    pub(crate) fn usd(&self, path: &[&str]) -> Result<f64> {
        let found = self.find(path).and_then(Value::as_f64);
        let is_price = |v: &f64| v.is_finite() && *v >= 0.0;
        found.filter(is_price).ok_or_else(|| self.lacks(path))
    }

    fn lacks(&self, path: &[&str]) -> anyhow::Error {
        anyhow!(
            "{} has no price {} (a number, in US dollars)",
            self.name,
            path.join(".")
        )
    }

    /// Lambda's.
    pub(crate) fn lambda(&self) -> Result<local_lambda::Prices> {
        self.usd(&["lambda_", "request"])?;
        for tiers in ["x86_gb_s", "arm_gb_s"] {
            let path = ["lambda_", tiers];
            self.find(&path).ok_or_else(|| self.lacks(&path))?;
        }
        let section = self.all["lambda_"].clone();
        let prices = serde_json::from_value(section);
        let prices: local_lambda::Prices = prices
            .with_context(|| format!("{}: lambda_ is not as local-lambda reads it", self.name))?;
        for (name, tiers) in [
            ("x86_gb_s", &prices.x86_gb_s),
            ("arm_gb_s", &prices.arm_gb_s),
        ] {
            let is_price = |(_, usd): &(Option<f64>, f64)| usd.is_finite() && *usd >= 0.0;
            ensure!(
                !tiers.is_empty() && tiers.iter().all(is_price),
                "{}: lambda_.{name} must be tiers [GB-seconds or null, US dollars]",
                self.name
            );
        }
        Ok(prices)
    }

    /// All machines of the file.
    pub(crate) fn machines(&self) -> Result<Vec<Machine>> {
        let path = ["ec2", "types"];
        let types = self.find(&path).and_then(Value::as_object);
        let types = types.ok_or_else(|| self.lacks(&path))?;
        types.keys().map(|name| self.machine(name)).collect()
    }

    pub(crate) fn machine(&self, name: &str) -> Result<Machine> {
        let price = |what| self.usd(&["ec2", "types", name, what]);
        let usd_h = price("usd_h")?;
        let baseline_mb_s = price("baseline_mbps")? / 8.0;
        ensure!(
            baseline_mb_s > 0.0,
            "{}: ec2.types.{name}.baseline_mbps must be more than 0",
            self.name
        );
        let nvme = |file: &Value| file["ec2"]["types"][name]["nvme_gb"].as_f64();
        Ok(Machine {
            name: name.to_owned(),
            usd_h,
            baseline_mb_s,
            // no price: what a machine has is the same in every file
            nvme_gb: nvme(&self.all)
                .or_else(|| nvme(&self.shipped))
                .unwrap_or(0.0),
            arch: arch_of(name),
        })
    }
}

/// Graviton has a g behind the generation.
fn arch_of(machine: &str) -> Architecture {
    let family = machine.split('.').next().unwrap_or_default();
    let behind = family.trim_start_matches(|c: char| !c.is_ascii_digit());
    match behind.contains('g') {
        true => Architecture::Arm,
        false => Architecture::X86,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_has_what_is_asked_for_and_marks_what_was_recalled() {
        let prices = PriceFile::read(None).unwrap();
        assert_eq!(prices.region(), "us-east-1");
        assert_eq!(prices.lambda().unwrap().request, 2e-7);
        assert!(prices.unchecked().is_empty());
        assert_eq!(prices.usd(&["s3", "get"]).unwrap(), 4e-7);
        assert_eq!(prices.unchecked(), ["s3.get"]);
        let machine = prices.machine("c6gn.medium").unwrap();
        assert_eq!((machine.usd_h, machine.baseline_mb_s), (0.0432, 200.0));
        for (name, arch) in [
            ("im4gn.large", Architecture::Arm),
            ("c8g.medium", Architecture::Arm),
            ("i4i.large", Architecture::X86),
            ("c6in.large", Architecture::X86),
        ] {
            assert_eq!(prices.machine(name).unwrap().arch, arch, "{name}");
        }
        assert!(prices.machines().unwrap().len() > 100);
    }

    #[test]
    fn a_missing_price_is_named() {
        let text = r#"{"lambda_": {"x86_gb_s": [[null, 1e-5]], "request": 2e-7},
            "ec2": {"types": {"c9.large": {"usd_h": "dear"}}}}"#;
        let prices = PriceFile::parse("p.json".into(), text).unwrap();
        let error = |e: anyhow::Error| e.to_string();
        let lambda = error(prices.lambda().unwrap_err());
        assert!(
            lambda.contains("p.json has no price lambda_.arm_gb_s"),
            "{lambda}"
        );
        let machine = error(prices.machine("c9.large").unwrap_err());
        assert!(machine.contains("ec2.types.c9.large.usd_h"), "{machine}");
        // of another region nothing is borrowed
        let logs = error(
            prices
                .usd(&["cloudwatch_logs", "ingestion_gb"])
                .unwrap_err(),
        );
        assert!(
            logs.contains("p.json has no price cloudwatch_logs.ingestion_gb"),
            "{logs}"
        );
        let serverless = prices.usd(&["elasticache_serverless", "valkey", "gb_h"]);
        assert!(error(serverless.unwrap_err()).contains("valkey.gb_h"));
        assert!(PriceFile::parse("p".into(), "{").is_err());
    }

    #[test]
    fn a_section_that_is_missing_is_borrowed_and_said_but_no_single_price() {
        let text = r#"{"region": "us-east-1", "vpc": {"public_ipv4_h": 0.004},
            "ec2": {"types": {"c6gd.medium": {"usd_h": 1, "baseline_mbps": 0}}}}"#;
        let prices = PriceFile::parse("old.json".into(), text).unwrap();
        assert_eq!(prices.usd(&["ebs", "gp3_gb_month"]).unwrap(), 0.08);
        assert_eq!(prices.borrowed(), ["ebs.gp3_gb_month"]);
        assert_eq!(prices.usd(&["vpc", "public_ipv4_h"]).unwrap(), 0.004);
        let error = prices.usd(&["vpc", "nat_gateway_h"]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("old.json has no price vpc.nat_gateway_h"),
            "{error}"
        );
        let error = prices.machine("c6gd.medium").unwrap_err().to_string();
        assert!(
            error.contains("baseline_mbps must be more than 0"),
            "{error}"
        );
    }

    #[test]
    fn every_section_says_where_it_is_from_and_as_of_when() {
        let prices = PriceFile::read(None).unwrap();
        assert_eq!(prices.sources(), []);
        for section in LATELY.into_iter().chain(["ec2", "s3"]) {
            let none = prices.usd(&[section, "nothing"]);
            assert!(none.is_err(), "{section}");
        }
        let sources = prices.sources();
        let of = |section: &str| sources.iter().find(|s| s.section == section).unwrap();
        assert_eq!(of("ec2").date.as_deref(), Some("2026-07-20"));
        assert_eq!(of("s3").source, "recalled, not checked");
        for section in LATELY {
            assert!(of(section).source.contains("verify"), "{section}");
        }
        assert_eq!(prices.machine("c6gd.medium").unwrap().nvme_gb, 59.0);
        assert_eq!(prices.machine("c6gn.medium").unwrap().nvme_gb, 0.0);
    }
}
