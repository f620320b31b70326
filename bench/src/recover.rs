//! How soon a proxy that was killed serves again, and how much memory it takes: with its
//! journal, and as many small objects as are wanted.
//!
//! The objects share segments, as small ones do. The platform with its nodes is a process of
//! its own and goes on. Ready is when PING is answered; the clock starts with the process.
//! Then the number of keys is compared, and some of the values.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::chaos::platform::Platform;
use crate::chart::{Axis, Drawing};
use crate::client::Connection;
use crate::grid::Grid;
use crate::interrupt;
use crate::keys::check_stored;
use crate::pool::{Ack, Pool};
use crate::procfs;
use crate::progress::Progress;
use crate::reply::Reply;
use crate::results::{self, Output, Results};
use crate::server::{self, Proxy, Server};
use scatterhoard_judge::bodies::Bodies;

/// Keys have nine digits; values are small enough to share segments.
const MAX_OBJECTS: usize = 1_000_000_000;
const MAX_VALUE_BYTES: usize = 16 << 10;
const MAX_ROUNDS: usize = 1_000;
const OBJECTS_QUICK: usize = 20_000;
/// Commands sent before their replies are read.
const PIPELINE: usize = 1000;
/// One of so many values is read back.
const READ_ONE_OF: usize = 50;
/// The journal is forced to the disk every second: that much later all of it is there.
const SYNCED_AFTER: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The scatterhoard program [default: the one beside this program].
    #[arg(long, value_name = "PATH")]
    scatterhoard: Option<PathBuf>,
    /// The local-lambda program [default: the one beside this program].
    #[arg(long, value_name = "PATH")]
    local_lambda: Option<PathBuf>,
    #[arg(long, default_value_t = 1_000_000)]
    objects: usize,
    /// Length of each value.
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// How often it is killed and started again.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// More seconds than this until it is ready are a failure.
    #[arg(long, default_value_t = 10.0)]
    within_s: f64,
    #[command(flatten)]
    pool: Pool,
    /// A few seconds: 20,000 objects, killed once; judges contents, no time.
    #[arg(long)]
    quick: bool,
    /// Of contents.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Default, Serialize)]
struct Figures {
    seed: u64,
    objects: usize,
    value_bytes: usize,
    #[serde(flatten)]
    filled: Option<Filled>,
    ready_s: Vec<f64>,
    /// Of the last one that was started again: when it was ready, and its largest until then.
    ready_rss_mb: f64,
    ready_peak_rss_mb: f64,
    /// Why there is no more; none if all was done.
    ended_early: Option<String>,
}

/// When all was written.
#[derive(Debug, Serialize)]
struct Filled {
    fill_s: f64,
    journal_mb: f64,
    /// Resident memory of the proxy that wrote it all.
    filled_rss_mb: f64,
}

/// Does it; what was measured until an error is published, too.
pub(crate) async fn run(mut args: Args) -> Result<()> {
    if args.quick {
        (args.objects, args.rounds) = (args.objects.min(OBJECTS_QUICK), 1);
        args.within_s = f64::INFINITY;
    }
    args.check()?;
    let mut figures = Figures {
        seed: args.seed,
        objects: args.objects,
        value_bytes: args.value_bytes,
        ..Figures::default()
    };
    let done = interrupt::unless_told(recover(&args, &mut figures)).await;
    figures.ended_early = results::why(&done);
    args.output.close(done, &figures)?;
    figures.judge(args.within_s)
}

async fn recover(args: &Args, figures: &mut Figures) -> Result<()> {
    let program = server::program(args.scatterhoard.as_deref(), "scatterhoard")?;
    let lambda = server::program(args.local_lambda.as_deref(), "local-lambda")?;
    let platform = Platform::start(&lambda, &program, &args.pool)?;
    let data = tempfile::tempdir()?;
    let mut proxy = Proxy::new(&args.pool, 0, Ack::Quorum)?;
    proxy.arguments.extend([
        "--lambda-endpoint".into(),
        platform.url().into(),
        "--data-dir".into(),
        data.path().into(),
    ]);
    let bodies = Bodies::new(args.value_bytes, args.seed);
    let read = args.objects.div_ceil(READ_ONE_OF);
    let progress = Progress::new(args.objects + args.rounds * read, "objects");
    let mut server = proxy.start(&program).await?;
    progress.at(|| "storing".into());
    let filled = fill(args, &server, &bodies, &progress).await;
    let fill_s = server.explain(filled)?.as_secs_f64();
    tokio::time::sleep(SYNCED_AFTER).await;
    figures.filled = Some(Filled {
        fill_s,
        journal_mb: folder_bytes(data.path())? as f64 / 1e6,
        filled_rss_mb: rss_mb(procfs::rss_kib(server.pid())),
    });
    for round in 1..=args.rounds {
        progress.at(|| format!("killed, start {round} of {}", args.rounds));
        // Dropped, it is killed.
        drop(server);
        let began = Instant::now();
        server = proxy.start(&program).await?;
        figures.ready_s.push(began.elapsed().as_secs_f64());
        figures.ready_rss_mb = rss_mb(procfs::rss_kib(server.pid()));
        figures.ready_peak_rss_mb = rss_mb(procfs::peak_rss_kib(server.pid()));
        progress.at(|| format!("reading after start {round} of {}", args.rounds));
        let checked = check(args, &server, &bodies, &progress).await;
        server.explain(checked)?;
    }
    progress.end();
    server.stop().await
}

fn key(number: usize) -> Vec<u8> {
    format!("recover:{number:09}").into_bytes()
}

async fn fill(
    args: &Args,
    server: &Server,
    bodies: &Bodies,
    progress: &Progress,
) -> Result<Duration> {
    let began = Instant::now();
    let mut connection = Connection::open(&server.target.address, PIPELINE, 0).await?;
    let all: Vec<usize> = (0..args.objects).collect();
    for batch in all.chunks(PIPELINE) {
        for &number in batch {
            let body = bodies.body(number, 0, args.value_bytes);
            connection.push(&[b"SET", &key(number), body])?;
        }
        connection.exchange(batch.len()).await?;
        (0..batch.len()).try_for_each(|i| check_stored(connection.reply(i)))?;
        progress.steps(batch.len());
    }
    Ok(began.elapsed())
}

/// All keys are there, and some values as they were.
async fn check(args: &Args, server: &Server, bodies: &Bodies, progress: &Progress) -> Result<()> {
    let mut connection = Connection::open(&server.target.address, PIPELINE, 0).await?;
    connection.push(&[b"DBSIZE"])?;
    connection.exchange(1).await?;
    let objects = args.objects.to_string();
    let counted = connection.reply(0);
    ensure!(
        counted == Some(Reply::Line(objects.as_bytes())),
        "DBSIZE: {counted:?} instead of {objects}"
    );
    let some: Vec<usize> = (0..args.objects).step_by(READ_ONE_OF).collect();
    for batch in some.chunks(PIPELINE) {
        for &number in batch {
            connection.push(&[b"GET", &key(number)])?;
        }
        connection.exchange(batch.len()).await?;
        for (i, &number) in batch.iter().enumerate() {
            let body = bodies.body(number, 0, args.value_bytes);
            let read = connection.reply(i);
            ensure!(
                read == Some(Reply::Bulk(body)),
                "GET of object {number}: WRONG BYTES or none: {read:?}"
            );
        }
        progress.steps(batch.len());
    }
    Ok(())
}

impl Args {
    fn check(&self) -> Result<()> {
        for (flag, value, most) in [
            ("--objects", self.objects, MAX_OBJECTS),
            ("--value-bytes", self.value_bytes, MAX_VALUE_BYTES),
            ("--rounds", self.rounds, MAX_ROUNDS),
        ] {
            ensure!((1..=most).contains(&value), "{flag} must be 1 to {most}");
        }
        ensure!(self.within_s > 0.0, "--within-s must be more than 0");
        ensure!(
            self.pool.has_room_for(self.objects, self.value_bytes),
            "{} objects of {} bytes do not fit {}",
            self.objects,
            self.value_bytes,
            self.pool
        );
        Ok(())
    }
}

fn rss_mb(kib: Option<u64>) -> f64 {
    kib.unwrap_or(0) as f64 * 1024.0 / 1e6
}

/// What all files in it take on the disk.
fn folder_bytes(folder: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            folder_bytes(&entry.path())?
        } else {
            metadata.blocks() * 512
        };
    }
    Ok(bytes)
}

impl Figures {
    fn svg(&self) -> String {
        let points = self.ready_s.iter().enumerate();
        let points = points.map(|(i, s)| (i as f64 + 1.0, *s)).collect();
        let drawing = Drawing {
            title: "seconds from the start of the process until PING is answered",
            along: "start after a kill",
            x: Axis::counts(self.ready_s.len()),
            y: Axis::from_zero(self.longest(), |s| format!("{s:.2} s")),
            lines: vec![(format!("{} objects", self.objects), points)],
        };
        drawing.svg()
    }

    fn longest(&self) -> f64 {
        self.ready_s.iter().copied().fold(0.0, f64::max)
    }

    fn judge(&self, within_s: f64) -> Result<()> {
        let longest = self.longest();
        ensure!(
            longest <= within_s,
            "{longest:.1} s until it was ready; {within_s} s are allowed"
        );
        Ok(())
    }
}

impl Results for Figures {
    fn text(&self, markdown: bool) -> String {
        let row = |(i, seconds): (usize, &f64)| vec![(i + 1).to_string(), format!("{seconds:.2}")];
        let grid = Grid {
            headings: ["start after a kill", "s until it was ready"]
                .map(str::to_owned)
                .to_vec(),
            left: Vec::new(),
            rows: self.ready_s.iter().enumerate().map(row).collect(),
        };
        let mut text = grid.text(markdown);
        let bullet = if markdown { "- " } else { "" };
        let filled = self.filled.as_ref().map(|filled| {
            format!(
                "{} objects of {} bytes, written in {:.1} s; journal {:.0} MB, proxy {:.0} MB",
                self.objects,
                self.value_bytes,
                filled.fill_s,
                filled.journal_mb,
                filled.filled_rss_mb
            )
        });
        let ready = (!self.ready_s.is_empty()).then(|| {
            format!(
                "the proxy when it was ready: {:.0} MB, {:.0} MB at most",
                self.ready_rss_mb, self.ready_peak_rss_mb
            )
        });
        let seed = Some(format!("seed {}", self.seed));
        let lines = [filled, ready, seed].into_iter().flatten();
        for line in lines {
            let _ = writeln!(text, "{bullet}{line}");
        }
        text
    }

    fn drawings(&self) -> Vec<(String, String)> {
        match self.ready_s[..] {
            [] => Vec::new(),
            _ => vec![("recover.svg".into(), self.svg())],
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn each_start_is_drawn() {
        let figures = Figures {
            objects: 1_000,
            ready_s: vec![0.5, 2.0, 1.0],
            ..Figures::default()
        };
        let svg = figures.svg();
        assert_eq!(svg.matches("<circle").count(), 3, "{svg}");
        assert!(svg.contains("1000 objects") && svg.contains(">2.00 s<"));
        let text = figures.text(true);
        let rows = "|--:|--:|\n| 1 | 0.50 |\n| 2 | 2.00 |\n| 3 | 1.00 |\n";
        assert!(
            text.contains(rows) && text.ends_with("- seed 0\n"),
            "{text}"
        );
        assert!(figures.judge(1.9).is_err() && figures.judge(2.0).is_ok());
    }

    #[test]
    fn what_ended_before_the_first_start_is_told_without_a_drawing() {
        let figures = Figures {
            seed: 3,
            ..Figures::default()
        };
        assert!(figures.drawings().is_empty());
        let text = figures.text(false);
        assert!(text.ends_with("ready\nseed 3\n"), "{text}");
    }

    #[test]
    fn numbers_that_make_no_sense_are_told() {
        let check = |line: &str| Cli::parse_from(line.split_whitespace()).args.check();
        assert!(check("x").is_ok());
        for (line, expected) in [
            ("x --objects 0", "--objects must be 1 to"),
            ("x --value-bytes 0", "--value-bytes must be"),
            ("x --rounds 0", "--rounds must be"),
            ("x --within-s NaN", "--within-s must be"),
            ("x --value-bytes 16384", "do not fit 14 nodes of 512 MB"),
        ] {
            let error = check(line).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
