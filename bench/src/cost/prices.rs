//! The price file. What a calculation asks for and the file lacks is named; what
//! the file calls RECALLED was never checked, and every result that uses it says so.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use local_lambda::Architecture;
use serde_json::Value;

/// The file that is used unless another is named: us-east-1, November 2026.
const SHIPPED: &str = include_str!("../../prices/us-east-1.json");
const MARK: &str = "_RECALLED";

/// Prices of a dated file.
pub(crate) struct PriceFile {
    name: String,
    all: Value,
    /// Those in use that nobody checked.
    unchecked: RefCell<BTreeSet<String>>,
}

/// A machine that can be rented.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) usd_h: f64,
    pub(crate) baseline_mb_s: f64,
    pub(crate) arch: Architecture,
}

impl PriceFile {
    pub(crate) fn read(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            return Self::parse("bench/prices/us-east-1.json".into(), SHIPPED);
        };
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        Self::parse(shown, &text)
    }

    pub(crate) fn parse(name: String, text: &str) -> Result<Self> {
        let all = serde_json::from_str(text).with_context(|| format!("{name} is no JSON"))?;
        Ok(Self {
            name,
            all,
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

    /// What is at a path of names; one that ends in RECALLED will do.
    fn find(&self, path: &[&str]) -> Option<&Value> {
        let (mut at, mut is_checked) = (&self.all, true);
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
        prices.with_context(|| format!("{}: lambda_ is not as local-lambda reads it", self.name))
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
        Ok(Machine {
            name: name.to_owned(),
            usd_h: price("usd_h")?,
            baseline_mb_s: price("baseline_mbps")? / 8.0,
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
        let serverless = prices.usd(&["elasticache_serverless", "valkey", "gb_h"]);
        assert!(error(serverless.unwrap_err()).contains("valkey.gb_h"));
        assert!(PriceFile::parse("p".into(), "{").is_err());
    }
}
