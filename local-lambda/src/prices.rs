//! What Lambda charges, and the arithmetic from GB-seconds to dollars. Pure.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The processor of a function; arm is cheaper. It changes the price only:
/// the process runs on whatever this machine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// `x86_64`.
    #[default]
    X86,
    /// `arm64`.
    Arm,
}

/// A step of a price list: its width in GB-seconds a month (`None`: all the
/// rest) and the dollars for each GB-second in it.
pub type Tier = (Option<f64>, f64);

/// A price list in US dollars.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prices {
    /// Dollars per GB-second on x86, by monthly tier.
    pub x86_gb_s: Vec<Tier>,
    /// Dollars per GB-second on arm, by monthly tier.
    pub arm_gb_s: Vec<Tier>,
    /// Dollars per request.
    pub request: f64,
}

impl Default for Prices {
    /// us-east-1, from the AWS Lambda pricing page and price-list API, read in
    /// October 2026: first 6, next 9, then over 15 billion GB-seconds a month
    /// on x86 (a quarter more on arm); 0.20 dollars a million requests. The
    /// free tier is not taken off.
    fn default() -> Prices {
        Prices {
            x86_gb_s: vec![
                (Some(6.0e9), 1.66667e-5),
                (Some(9.0e9), 1.5e-5),
                (None, 1.3334e-5),
            ],
            arm_gb_s: vec![
                (Some(7.5e9), 1.33334e-5),
                (Some(11.25e9), 1.20001e-5),
                (None, 1.06667e-5),
            ],
            request: 2.0e-7,
        }
    }
}

impl Prices {
    /// Reads the section `lambda_` of a JSON price file, or a file that is that
    /// section alone.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read or lacks a price.
    pub fn from_file(path: &Path) -> Result<Prices, Error> {
        let wrong = |reason: String| Error::File {
            path: path.to_owned(),
            reason,
        };
        let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
        Prices::from_json(&text).map_err(|e| wrong(e.to_string()))
    }

    fn from_json(text: &str) -> Result<Prices, serde_json::Error> {
        let whole: serde_json::Value = serde_json::from_str(text)?;
        let section = whole.get("lambda_").unwrap_or(&whole);
        Prices::deserialize(section)
    }

    /// Dollars for `gb_s` GB-seconds of one month on `arch`.
    pub fn compute_usd(&self, arch: Architecture, gb_s: f64) -> f64 {
        let tiers = match arch {
            Architecture::X86 => &self.x86_gb_s,
            Architecture::Arm => &self.arm_gb_s,
        };
        let mut left = gb_s;
        let mut usd = 0.0;
        for (width, price) in tiers {
            let here = width.map_or(left, |w| left.min(w));
            usd += here * price;
            left -= here;
        }
        usd
    }

    /// Dollars for `requests` requests.
    pub fn requests_usd(&self, requests: u64) -> f64 {
        requests as f64 * self.request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_are_widths_and_the_last_is_open() {
        let p = Prices::default();
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs().max(1.0);
        assert!(close(p.compute_usd(Architecture::X86, 1.0), 1.66667e-5));
        let all = 6.0e9 * 1.66667e-5 + 9.0e9 * 1.5e-5 + 1.0e9 * 1.3334e-5;
        assert!(close(p.compute_usd(Architecture::X86, 16.0e9), all));
        assert!(p.compute_usd(Architecture::Arm, 1e6) < p.compute_usd(Architecture::X86, 1e6));
        assert!(close(p.requests_usd(1_000_000), 0.2));
    }

    #[test]
    fn reads_the_section_or_the_section_alone() {
        let section = r#"{"source":"x","x86_gb_s":[[null,2e-5]],"arm_gb_s":[[10,1e-5],[null,5e-6]],"request":3e-7}"#;
        let alone = Prices::from_json(section).unwrap();
        let within =
            Prices::from_json(&format!(r#"{{"region":"r","lambda_":{section}}}"#)).unwrap();
        assert_eq!(alone, within);
        assert_eq!(alone.arm_gb_s, vec![(Some(10.0), 1e-5), (None, 5e-6)]);
        assert!(Prices::from_json(r#"{"lambda_":{"request":1}}"#).is_err());
    }
}
