//! The configuration file of the program, in TOML. See
//! `local-lambda.example.toml` for every key.

use crate::Error;
use crate::function::FunctionConfig;
use crate::prices::Prices;
use crate::reclaim::ReclaimProcess;
use crate::settings::Settings;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A configuration file, read and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The table `platform`, with prices and reclaim process filled in.
    pub settings: Settings,
    /// All functions, those with a count multiplied.
    pub functions: Vec<FunctionConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    platform: Settings,
    prices_file: Option<PathBuf>,
    reclaim_from: Option<ReclaimFrom>,
    #[serde(default)]
    functions: Vec<toml::Table>,
}

/// A reclaim process by reference to a file of observed rates.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReclaimFrom {
    file: PathBuf,
    day: String,
    #[serde(default = "one")]
    scale: f64,
    #[serde(default = "minute", rename = "minute_s", with = "crate::text::seconds")]
    minute: Duration,
}

fn one() -> f64 {
    1.0
}

fn minute() -> Duration {
    Duration::from_secs(60)
}

/// More than any account has; a slip of the keyboard, then.
const MAX_COUNT: i64 = 10_000;

impl Config {
    /// Reads a file and those it refers to. Relative paths are relative to the
    /// current directory.
    ///
    /// # Errors
    /// [`Error::File`] naming the file and what is wrong with it.
    pub fn from_file(path: &Path) -> Result<Config, Error> {
        let wrong = |reason: String| Error::File {
            path: path.to_owned(),
            reason,
        };
        let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
        let file: File = toml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        let mut settings = file.platform;
        if let Some(prices) = file.prices_file {
            settings.prices = Prices::from_file(&prices)?;
        }
        if let Some(from) = file.reclaim_from {
            let process = ReclaimProcess::from_file(&from.file, &from.day, from.scale)?;
            settings.reclaim.process = Some(ReclaimProcess {
                minute: from.minute,
                ..process
            });
        }
        let mut functions = Vec::new();
        for table in file.functions {
            functions.extend(expand(table).map_err(wrong)?);
        }
        functions.iter().try_for_each(FunctionConfig::validate)?;
        Ok(Config {
            settings,
            functions,
        })
    }
}

/// One function, or `count` of them: `{}` in the name becomes the number, with
/// at least three digits; a name without `{}` gets it as `-000`.
fn expand(mut table: toml::Table) -> Result<Vec<FunctionConfig>, String> {
    let count = table.remove("count");
    let config: FunctionConfig = table
        .try_into()
        .map_err(|e: toml::de::Error| e.to_string())?;
    let count = match count {
        None => return Ok(vec![config]),
        Some(toml::Value::Integer(n)) if (0..=MAX_COUNT).contains(&n) => n,
        Some(other) => {
            return Err(format!(
                "count = {other}: a number from 0 to {MAX_COUNT} is wanted"
            ));
        }
    };
    let pattern = if config.name.contains("{}") {
        config.name.clone()
    } else {
        format!("{}-{{}}", config.name)
    };
    let name = |n: i64| pattern.replace("{}", &format!("{n:03}"));
    Ok((0..count)
        .map(|n| FunctionConfig {
            name: name(n),
            ..config.clone()
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_valid_and_multiplies_its_functions() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("local-lambda.example.toml");
        let config = Config::from_file(&path).unwrap();
        assert_eq!(config.functions.len(), 12);
        assert_eq!(config.functions[11].name, "node-011");
        assert_eq!(
            config.settings,
            Settings {
                listen: "127.0.0.1:9001".parse().unwrap(),
                ..Settings::default()
            }
        );
    }

    #[test]
    fn names_take_a_number_where_they_say_so() {
        let table = |text: &str| toml::from_str::<toml::Table>(text).unwrap();
        let names = |text| -> Vec<String> {
            expand(table(text))
                .unwrap()
                .into_iter()
                .map(|f| f.name)
                .collect()
        };
        assert_eq!(names("name='n'\nprogram='p'\ncount=2"), ["n-000", "n-001"]);
        assert_eq!(names("name='a{}z'\nprogram='p'\ncount=1"), ["a000z"]);
        assert_eq!(names("name='n'\nprogram='p'"), ["n"]);
        assert!(expand(table("name='n'\nprogram='p'\ncount=-1")).is_err());
        assert!(expand(table("name='n'\nprogram='p'\nmemory=1")).is_err());
    }
}
