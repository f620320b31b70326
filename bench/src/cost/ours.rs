//! Ours: dollars by what they are for.

use anyhow::Result;
use local_lambda::Architecture;
use serde::Serialize;

use super::args::Args;
use super::machine::{self, ProxyMachine};
use super::peers::HOURS_OF_MONTH;
use super::prices::PriceFile;
use super::running::{Load, Running};
use super::{Use, formula};
use crate::replay;

/// Bytes of a part that is uploaded to the backing store.
const PART_BYTES: f64 = 8.0 * 1_048_576.0;

/// Dollars by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct ByPurpose {
    pub(crate) serve: f64,
    pub(crate) warm: f64,
    pub(crate) backup: f64,
    pub(crate) repair: f64,
    pub(crate) proxy: f64,
    pub(crate) cross_zone: f64,
    pub(crate) backing_store: f64,
    /// The platform's lines about invocations.
    pub(crate) logs: f64,
    /// The proxy's way to the Lambda API.
    pub(crate) api_path: f64,
    pub(crate) volumes: f64,
    /// Metrics and alarms.
    pub(crate) watch: f64,
}

impl ByPurpose {
    /// Functions and the proxy's machine, traffic between zones, the backing store.
    fn core(&self) -> f64 {
        let lambda = self.serve + self.warm + self.backup + self.repair;
        lambda + self.proxy + self.cross_zone + self.backing_store
    }

    /// What else a deployment has.
    pub(super) fn beside(&self) -> f64 {
        self.logs + self.api_path + self.volumes + self.watch
    }
}

/// Ours on one architecture, for all of the time.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ours {
    pub(crate) arch: &'static str,
    pub(crate) proxy_machine: ProxyMachine,
    pub(crate) total_usd: f64,
    /// Without what runs beside functions and proxy: way to the API, volumes, logs, alarms.
    pub(crate) core_usd: f64,
    pub(crate) usd_by_purpose: ByPurpose,
}

impl Args {
    pub(super) fn ours(
        &self,
        used: &Use,
        prices: &PriceFile,
        lambda: &local_lambda::Prices,
        arch: Architecture,
        named: Option<&str>,
    ) -> Result<Ours> {
        let machine = machine::choose(named, arch, used.burden, prices)?;
        let load = Load {
            invocations: used.bills.invocations(),
            hours: used.hours,
            machines: machine.count,
            backing_store: self.backing_store,
        };
        let Running {
            logs,
            api_path,
            volumes,
            watch,
        } = self.running.usd(load, prices)?;
        let [serve, warm, backup, repair] = formula::usd(&used.bills, lambda, arch);
        let usd_by_purpose = ByPurpose {
            serve,
            warm,
            backup,
            repair,
            proxy: machine.usd_per_hour * used.hours,
            // out of one zone and into another: both are charged
            cross_zone: match self.cross_zone_share > 0.0 {
                true => {
                    let each = prices.usd(&["cross_az_gb_each_way"])?;
                    used.proxy_gb * self.cross_zone_share * each * 2.0
                }
                false => 0.0,
            },
            backing_store: match self.backing_store {
                true => self.backing_usd(used, prices)?,
                false => 0.0,
            },
            logs,
            api_path,
            volumes,
            watch,
        };
        Ok(Ours {
            arch: replay::arch_name(arch),
            proxy_machine: machine,
            total_usd: usd_by_purpose.core() + usd_by_purpose.beside(),
            core_usd: usd_by_purpose.core(),
            usd_by_purpose,
        })
    }

    /// Each object is uploaded in parts, and kept for as long as it is indexed.
    fn backing_usd(&self, used: &Use, prices: &PriceFile) -> Result<f64> {
        let price = |what| prices.usd(&["s3", what]);
        let parts = (used.workload.object_mb * 1e6 / PART_BYTES).ceil();
        let puts = if parts > 1.0 { parts + 2.0 } else { 1.0 };
        let kept = used.demand.stored_gb * used.hours / HOURS_OF_MONTH * price("gb_month")?;
        let resets = used.outcome.as_ref().map_or(0.0, |o| o.tally.resets);
        let uploads = used.workload.sets_per_hour * used.hours * puts * price("put")?;
        Ok(kept + uploads + resets * price("get")?)
    }
}
