//! What a probe measured of a platform (`scatterhoard probe`), in place of what the
//! simulation and the formulas assume of one.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use scatterhoard_proxy::config::Upkeep;
use scatterhoard_proxy::pool::linger;
use scatterhoard_proxy::profile::{Profile, Spread};
use serde::Serialize;

use crate::availability::patterns::{OBSERVED, Pattern};
use crate::availability::settings::{DIAL, Settings};

/// What of it the model has a place for. What was not measured stays as assumed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Probed {
    pub(crate) date: String,
    pub(crate) platform: String,
    pub(crate) functions: u32,
    pub(crate) memory_mb: u32,
    /// From an invoke to the hello: of a warm instance, and where one has to be started.
    /// Medians.
    pub(crate) warm_hello_ms: Option<f64>,
    pub(crate) cold_hello_ms: Option<f64>,
    /// Of one function, medians of its slower way.
    pub(crate) function_mb_s: Option<f64>,
    /// What a proxy with this profile takes for its own.
    pub(crate) warm_interval_s: u64,
    pub(crate) warm_interval_max_s: u64,
    pub(crate) usd_per_wait: f64,
    /// How long instances live; none if none was lost.
    pub(crate) lifetime_s: Option<u64>,
}

impl Probed {
    /// Of a file; for command lines.
    pub(crate) fn read(path: &str) -> Result<Self, String> {
        let profile = Profile::read(Path::new(path));
        profile.map(|p| Self::of(&p)).map_err(|e| e.to_string())
    }

    fn of(profile: &Profile) -> Self {
        let advice = profile.advice(linger::USD_PER_WAIT, Upkeep::REMOTE.warm_interval_s);
        let p50 = |spread: Option<Spread>| spread.map(|s| s.p50);
        let warm_hello_ms = p50(profile.wake_ms);
        // until its handler runs, a new instance takes so much longer
        let start_ms = p50(profile.cold_invoke_ms).zip(p50(profile.warm_invoke_ms));
        let start_ms = start_ms.map(|(cold, warm)| (cold - warm).max(0.0));
        let ways = p50(profile.put_mb_s).zip(p50(profile.get_mb_s));
        Self {
            date: profile.date.clone(),
            platform: profile.platform.clone(),
            functions: profile.functions,
            memory_mb: profile.memory_mb,
            warm_hello_ms,
            cold_hello_ms: warm_hello_ms.zip(start_ms).map(|(warm, more)| warm + more),
            function_mb_s: ways.map(|(put, get)| put.min(get)),
            warm_interval_s: advice.warm_interval_s,
            warm_interval_max_s: advice.warm_interval_max_s,
            usd_per_wait: advice.usd_per_wait,
            lifetime_s: advice.lifetime.map(|lives| lives.as_secs()),
        }
    }

    /// Puts it in place of what is assumed. The rate of a function only if `is_rate_wanted`:
    /// then it must be of functions of the same memory.
    pub(super) fn apply(
        &self,
        settings: &mut Settings,
        memory_mb: u32,
        is_rate_wanted: bool,
    ) -> Result<()> {
        let micros = |ms: f64| (ms * 1e3) as u64;
        if let Some(ms) = self.warm_hello_ms {
            settings.warm_hello = micros(ms).max(DIAL);
        }
        if let Some(ms) = self.cold_hello_ms {
            settings.cold_hello = micros(ms).max(settings.warm_hello);
        }
        settings.usd_per_wait = self.usd_per_wait;
        settings.set_warm_interval(self.warm_interval_s);
        settings.warmth.most = Duration::from_secs(self.warm_interval_max_s);
        let Some(mb_s) = self.function_mb_s.filter(|_| is_rate_wanted) else {
            return Ok(());
        };
        ensure!(
            self.memory_mb == memory_mb,
            "the profile is of functions of {} MiB, and the rate of a function hangs on that: \
             name --memory-mb {} or a --function-mb-s",
            self.memory_mb,
            self.memory_mb
        );
        settings.function_bytes_per_s = ((mb_s * 1e6) as u64).max(1);
        Ok(())
    }

    /// Instances that are taken one by one, each after that time on the average.
    pub(super) fn pattern(&self) -> Result<Pattern> {
        let Some(lifetime_s) = self.lifetime_s else {
            anyhow::bail!(
                "the profile has no loss of an instance: how long they live is not known \
                 from it; name another --day"
            )
        };
        let a_minute = OBSERVED * 60.0 / lifetime_s as f64;
        let (least, more) = (a_minute.floor(), a_minute.fract());
        Ok(Pattern::Minutes(vec![
            (1.0 - more, least as u32),
            (1.0, least as u32 + 1),
        ]))
    }
}

impl fmt::Display for Probed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |value: Option<f64>| value.map_or("as assumed".into(), |v| format!("{v:.1}"));
        write!(
            f,
            "measured {} of {} functions of {} MiB ({}): hello after {} ms warm, {} ms cold; {} \
             MB/s a function; left alone for {} to {} s; instances live {}",
            self.date,
            self.functions,
            self.memory_mb,
            self.platform,
            known(self.warm_hello_ms),
            known(self.cold_hello_ms),
            known(self.function_mb_s),
            self.warm_interval_s,
            self.warm_interval_max_s,
            match self.lifetime_s {
                Some(s) => format!("{:.1} h", s as f64 / 3600.0),
                None => "longer than was seen".into(),
            }
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use scatterhoard_proxy::profile::{Gap, VERSION};

    use super::*;

    /// A slow platform, whose instances live for half an hour.
    pub(crate) fn profile() -> Profile {
        let one = |figure| Spread::of(vec![figure]);
        let gap = |gap_s, kept, lost| Gap { gap_s, kept, lost };
        Profile {
            version: VERSION,
            date: "2026-11-22T12:00:00Z".into(),
            platform: "aws".into(),
            functions: 4,
            memory_mb: 320,
            minutes: 30.0,
            warm_invoke_ms: one(20.0),
            cold_invoke_ms: one(220.0),
            wake_ms: one(26.0),
            get_ms: one(3.0),
            put_mb_s: one(50.0),
            get_mb_s: one(40.0),
            gaps: vec![gap(60, 29, 1)],
        }
    }

    #[test]
    fn what_was_measured_takes_the_place_of_what_is_assumed() {
        let probed = Probed::of(&profile());
        let mut settings = Settings::proxy_defaults(20, 320);
        probed.apply(&mut settings, 320, true).unwrap();
        assert_eq!(
            (settings.warm_hello, settings.cold_hello),
            (26_000, 226_000)
        );
        assert_eq!(settings.function_bytes_per_s, 40_000_000);
        assert!((settings.usd_per_wait / linger::USD_PER_WAIT - 2.0).abs() < 1e-9);
        let said = probed.to_string();
        assert!(said.contains("226.0 ms cold; 40.0 MB/s"), "{said}");
        assert!(said.contains("live 0.5 h"), "{said}");
    }

    #[test]
    fn what_was_not_measured_stays_as_it_is() {
        let usual = Settings::proxy_defaults(20, 320);
        let mut settings = usual.clone();
        let probed = Probed::of(&Profile::default());
        // of another memory, but no rate in it
        probed.apply(&mut settings, 320, true).unwrap();
        assert_eq!(format!("{settings:?}"), format!("{usual:?}"));
        let error = probed.pattern().unwrap_err().to_string();
        assert!(error.contains("no loss of an instance"), "{error}");
    }

    #[test]
    fn rates_are_of_functions_of_the_same_memory() {
        let probed = Probed::of(&profile());
        let mut settings = Settings::proxy_defaults(20, 1536);
        let error = probed.apply(&mut settings, 1536, true).unwrap_err();
        assert!(error.to_string().contains("--memory-mb 320"), "{error}");
        let rate = settings.function_bytes_per_s;
        probed.apply(&mut settings, 1536, false).unwrap();
        assert_eq!(settings.function_bytes_per_s, rate);
    }

    #[test]
    fn instances_live_as_long_as_was_measured() {
        let probed = Probed::of(&profile());
        assert_eq!(probed.lifetime_s, Some(1_800));
        let an_hour = probed.pattern().unwrap().losses_per_instance_hour();
        assert!((an_hour - 2.0).abs() < 1e-9, "{an_hour}");
    }
}
