//! `scatterhoard probe`: measures a platform by its functions, and writes a profile.
//!
//! First how long invokes take, warm and cold; then links and their bandwidth; the rest
//! of the time goes into silences of growing length, after each of which the instance is
//! there or not. The functions must not serve a proxy meanwhile: its requests would keep
//! instances warm, and the probe's would start more of them.

mod links;
mod silence;

use std::{path::PathBuf, time::Duration};

use scatterhoard_node::random::HashSet;
use scatterhoard_wire::{
    Epoch, InstanceId, InvocationId, NodeId, SPOKEN, Token,
    invoke::{Invocation, Purpose, Report},
};
use tokio::time::{Instant, timeout};

use crate::{
    clock,
    config::{Config, Functions},
    epoch::{DataDir, DataDirError},
    local_pool::{self, Program},
    pool::platform::{InvokeFailure, Platform},
    profile::{self, Profile, ProfileError, Spread},
};

/// Pings of a warm instance; below 10 a second, as Lambda takes them.
const PINGS: usize = 20;
const PING_EVERY: Duration = Duration::from_millis(110);
/// An invoke that takes longer is no ping.
const PING_LIMIT: Duration = Duration::from_secs(30);
/// Younger than its invoke, but for clocks that differ.
const CLOCKS_MS: u64 = 1_000;
const LOCAL_GRACE: Duration = Duration::from_secs(2);

/// What to measure.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The first so many functions.
    pub functions: u16,
    /// For so long in all.
    pub time: Duration,
    /// Where the profile goes.
    pub output: PathBuf,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A function cannot be invoked.
    #[error("{function}: {advice}")]
    Invoke {
        /// Which.
        function: String,
        /// Why, and what to do.
        advice: String,
    },
    /// Another proxy works here.
    #[error("{0}; stop it first: its requests would be measured, too")]
    DataDir(#[from] DataDirError),
    /// Nodes cannot dial.
    #[error(
        "cannot listen for links on {address}: {error}; stop the proxy, or choose another --link-listen"
    )]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// Which nodes there are is not known.
    #[error(transparent)]
    Journal(#[from] crate::journal::JournalError),
    /// A link was not opened, or broke.
    #[error("{function}: {why}; see `scatterhoard doctor`")]
    Link {
        /// Whose.
        function: String,
        /// What happened.
        why: String,
    },
    /// The local pool did not start.
    #[error("cannot start the local pool: {0}")]
    LocalPool(anyhow::Error),
    /// The file cannot be written.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

/// Measures, and writes the profile. `say` is told what goes on.
///
/// # Errors
/// See [`ProbeError`].
pub async fn probe(
    config: &Config,
    settings: &Settings,
    program: &Program,
    say: &(impl Fn(String) + Sync),
) -> Result<Profile, ProbeError> {
    let _lock = config.data_dir.as_deref().map(DataDir::open).transpose()?;
    let local = match config.functions {
        Functions::Local => {
            let started =
                local_pool::start(config, program, config.function_names().into_iter()).await;
            Some(started.map_err(ProbeError::LocalPool)?)
        }
        Functions::Endpoint(_) | Functions::Aws => None,
    };
    let (endpoint, named) = match (&config.functions, &local) {
        (_, Some(local)) => (Some(local.endpoint_url()), "local".to_owned()),
        (Functions::Endpoint(url), None) => (Some(url.clone()), url.clone()),
        (Functions::Aws | Functions::Local, None) => (None, "aws".to_owned()),
    };
    let platform = Platform::connect(endpoint.as_deref()).await;
    let measured = measure(config, settings, &platform, named, say).await;
    if let Some(local) = local {
        local.shutdown(LOCAL_GRACE).await;
    }
    let profile = measured?;
    profile.write(&settings.output)?;
    Ok(profile)
}

async fn measure(
    config: &Config,
    settings: &Settings,
    platform: &Platform,
    named: String,
    say: &(impl Fn(String) + Sync),
) -> Result<Profile, ProbeError> {
    let start = Instant::now();
    let mut names = config.function_names();
    names.truncate(settings.functions.max(1).into());
    let mut times = Times::default();
    let mut epoch = Epoch(0);
    for (i, name) in names.iter().enumerate() {
        let subject = Subject::new(platform, name, i);
        epoch = epoch.max(subject.invokes(&mut times).await?);
        say(format!(
            "{name}: {} warm invokes, {} cold ones so far",
            times.warm_ms.len(),
            times.cold_ms.len()
        ));
    }
    let links = links::measure(config, platform, &names, epoch, &mut times).await?;
    if let (Some(put), Some(get)) = (links.put_mb_s, links.get_mb_s) {
        say(format!(
            "links: {:.0} MB/s to a node, {:.0} MB/s from it",
            put.p50, get.p50
        ));
    }
    let warm_invoke_ms = Spread::of(times.warm_ms);
    let cold_invoke_ms = Spread::of(times.cold_ms);
    let left = settings.time.saturating_sub(start.elapsed());
    say(format!(
        "silences of growing length for {:.1} min",
        left.as_secs_f64() / 60.0
    ));
    let end = start + settings.time;
    let gaps = silence::measure(platform, &names, times.known, end, say).await;
    Ok(Profile {
        version: profile::VERSION,
        date: profile::date(clock::since_1970()),
        platform: named,
        functions: u32::try_from(names.len()).unwrap_or(u32::MAX),
        memory_mb: config.node_memory_mb,
        minutes: start.elapsed().as_secs_f64() / 60.0,
        warm_invoke_ms,
        cold_invoke_ms,
        wake_ms: links.wake_ms,
        get_ms: links.get_ms,
        put_mb_s: links.put_mb_s,
        get_mb_s: links.get_mb_s,
        gaps,
    })
}

/// Times of invokes, in milliseconds, and who answered.
#[derive(Default)]
struct Times {
    warm_ms: Vec<f64>,
    cold_ms: Vec<f64>,
    known: HashSet<InstanceId>,
}

/// One function, pinged.
#[derive(Clone, Copy)]
struct Subject<'a> {
    platform: &'a Platform,
    function: &'a str,
    node: NodeId,
}

/// What a ping was answered.
struct Ping {
    took: Duration,
    report: Report,
    /// The instance was started for it.
    is_cold: bool,
}

impl<'a> Subject<'a> {
    fn new(platform: &'a Platform, function: &'a str, index: usize) -> Self {
        Self {
            platform,
            function,
            node: NodeId(u16::try_from(index).unwrap_or(u16::MAX)),
        }
    }

    async fn ping(&self) -> Result<Ping, InvokeFailure> {
        let invocation = Invocation {
            speaks: SPOKEN,
            purpose: Purpose::Warm,
            proxy: std::net::SocketAddr::from(([127, 0, 0, 1], 1)),
            token: Token(0),
            certificate: None,
            node: self.node,
            invocation: InvocationId(0),
            epoch: Epoch(0),
            linger_ms: 1,
            deadline_margin_ms: 1,
        };
        let (begin, begin_unix_ms) = (Instant::now(), clock::unix_ms());
        let call = self.platform.invoke(self.function, &invocation);
        let report = timeout(PING_LIMIT, call).await.unwrap_or_else(|_| {
            let text = format!("no answer in {} s", PING_LIMIT.as_secs());
            Err(InvokeFailure::Report(text))
        })?;
        Ok(Ping {
            took: begin.elapsed(),
            is_cold: report.birth_unix_ms + CLOCKS_MS >= begin_unix_ms,
            report,
        })
    }

    /// Pings it until it is warm, and then some; the highest epoch that it has met.
    async fn invokes(&self, times: &mut Times) -> Result<Epoch, ProbeError> {
        let (mut epoch, mut last): (_, Option<InstanceId>) = (Epoch(0), None);
        for _ in 0..=PINGS {
            let ping = self.ping().await.map_err(|failure| ProbeError::Invoke {
                function: self.function.to_owned(),
                advice: failure.advice(),
            })?;
            times.known.insert(ping.report.instance);
            let took_ms = ping.took.as_secs_f64() * 1e3;
            if last == Some(ping.report.instance) {
                times.warm_ms.push(took_ms);
            } else if ping.is_cold {
                times.cold_ms.push(took_ms);
            }
            last = Some(ping.report.instance);
            epoch = epoch.max(ping.report.highest_epoch);
            tokio::time::sleep(PING_EVERY).await;
        }
        Ok(epoch)
    }
}
