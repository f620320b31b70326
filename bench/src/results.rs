//! What a subcommand found, and where it goes: tables on the standard output, all figures as
//! JSON, drawings. One way for all of them; only what was found is their own.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::chart;

/// Instead of a file's name: the standard output.
const STANDARD: &str = "-";

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Output {
    /// Write all figures there; without a file, to the standard output instead of tables.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = STANDARD)]
    pub(crate) json: Option<PathBuf>,
    /// Print tables as Markdown.
    #[arg(long)]
    pub(crate) markdown: bool,
    /// Draw into this folder (SVG).
    #[arg(long, value_name = "DIR")]
    pub(crate) plot: Option<PathBuf>,
}

/// As JSON it is all that is known.
pub(crate) trait Results: Serialize {
    /// For people, the seed included.
    fn text(&self, markdown: bool) -> String;

    /// Names of files, and SVG; none of what there is nothing of.
    fn drawings(&self) -> Vec<(String, String)>;
}

impl Output {
    /// Publishes what there is. What cannot be written keeps nothing else from being.
    pub(crate) fn publish(&self, results: &impl Results) -> Result<()> {
        let is_standard = self
            .json
            .as_ref()
            .is_some_and(|p| p.as_os_str() == STANDARD);
        if !is_standard {
            print!("{}", results.text(self.markdown));
        }
        self.write(results).and(self.draw(results))
    }

    /// The same, however the work ended; hands the end on.
    pub(crate) fn close(&self, ended: Result<()>, results: &impl Results) -> Result<()> {
        let published = self.publish(results);
        ended.and(published)
    }

    fn write(&self, results: &impl Results) -> Result<()> {
        let Some(path) = &self.json else {
            return Ok(());
        };
        let json = serde_json::to_string_pretty(results)?;
        if path.as_os_str() == STANDARD {
            println!("{json}");
            return Ok(());
        }
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
    }

    fn draw(&self, results: &impl Results) -> Result<()> {
        let Some(folder) = &self.plot else {
            return Ok(());
        };
        let drawings = results.drawings().into_iter();
        drawings
            .map(|(name, svg)| chart::write(&folder.join(name), &svg))
            .fold(Ok(()), Result::and)
    }
}

/// Why there is no more; none if all was done.
pub(crate) fn why<T>(ended: &Result<T>) -> Option<String> {
    ended.as_ref().err().map(|error| format!("{error:#}"))
}

/// Those of several runs.
pub(crate) fn seeds_in_words(seeds: &[u64]) -> String {
    match seeds {
        [] => "no seed".to_owned(),
        [seed] => format!("seed {seed}"),
        [first, .., last] if last.wrapping_sub(*first) == seeds.len() as u64 - 1 => {
            format!("seeds {first} to {last}")
        }
        some => format!("seeds {some:?}"),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;
    use clap::Parser;

    use super::*;

    #[derive(Serialize)]
    struct Found {
        seed: u64,
    }

    impl Results for Found {
        fn text(&self, markdown: bool) -> String {
            format!("{markdown}")
        }

        fn drawings(&self) -> Vec<(String, String)> {
            vec![("a.svg".into(), "<svg/>".into())]
        }
    }

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        output: Output,
    }

    fn output(arguments: &[&str]) -> Output {
        Cli::parse_from([&["x"], arguments].concat()).output
    }

    #[test]
    fn what_was_found_before_an_error_is_written_and_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (json, plots) = (at("out.json"), at("plots"));
        let output = output(&[
            "--json",
            json.to_str().unwrap(),
            "--plot",
            plots.to_str().unwrap(),
        ]);
        let ended: Result<()> = (|| bail!("interrupted"))();
        assert_eq!(why(&ended).as_deref(), Some("interrupted"));
        let error = output.close(ended, &Found { seed: 7 }).unwrap_err();
        assert_eq!(error.to_string(), "interrupted");
        let said: serde_json::Value =
            serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
        assert_eq!(said["seed"], 7);
        assert!(plots.join("a.svg").is_file());
    }

    #[test]
    fn a_file_that_cannot_be_written_keeps_no_drawing_from_being() {
        let folder = tempfile::tempdir().unwrap();
        let json = folder.path().join("none/out.json");
        let folder = folder.path().to_str().unwrap();
        let output = output(&["--json", json.to_str().unwrap(), "--plot", folder]);
        let error = output.publish(&Found { seed: 1 }).unwrap_err().to_string();
        assert!(error.starts_with("cannot write"), "{error}");
        assert!(std::path::Path::new(folder).join("a.svg").is_file());
    }

    #[test]
    fn seeds_that_follow_each_other_are_said_by_their_ends() {
        let words = [&[][..], &[7], &[1, 2, 3], &[1, 3]].map(seeds_in_words);
        let expected = ["no seed", "seed 7", "seeds 1 to 3", "seeds [1, 3]"];
        assert_eq!(words, expected);
    }

    #[test]
    fn json_without_a_file_is_for_the_standard_output() {
        assert_eq!(output(&["--json"]).json.unwrap().as_os_str(), STANDARD);
        assert!(output(&[]).json.is_none());
    }
}
