//! What runs beside functions and the proxy's machine, and costs little each: log lines,
//! the proxy's way to the Lambda API, volumes, metrics and alarms.

use anyhow::{Result, ensure};
use clap::ValueEnum;

use super::module::Watched;
use super::peers::HOURS_OF_MONTH;
use super::prices::PriceFile;

/// START, END and REPORT of an invocation as plain text (74, 53 and 120 bytes with a
/// request id of 36), and the 26 bytes that CloudWatch counts for each event.
const LOG_BYTES_PER_INVOCATION: f64 = 325.0;
/// An invoke and its answer: 1,064 bytes of request as the AWS SDK writes it with TLS on
/// links (read off a socket, docs/cost.md), the rest taken for headers of the answer, its
/// result, and TLS around both.
const INVOKE_BYTES: f64 = 2000.0;
/// The proxy's machine sends its metrics once a minute, all in one request.
const METRIC_REQUESTS_PER_HOUR: f64 = 60.0;
/// No volume is larger.
const MAX_VOLUME_GB: f64 = 65_536.0;

/// Whether there is such a thing: the platform's own lines about each invocation, alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

/// How the proxy reaches the Lambda API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ApiPath {
    PublicAddress,
    InterfaceEndpoint,
    NatGateway,
}

#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct RunningArgs {
    /// START, END and REPORT lines of each invocation in CloudWatch. Off: functions log as
    /// JSON with system log level WARN.
    #[arg(long, value_enum, default_value = "off")]
    platform_logs: Switch,
    /// The metrics and alarms of the Terraform module.
    #[arg(long, value_enum, default_value = "on")]
    watch: Switch,
    /// The proxy's way to the Lambda API.
    #[arg(long, value_enum, default_value = "public-address")]
    api_path: ApiPath,
    /// Gigabytes of the gp3 volume from which a machine starts, the proxy's and those of others.
    #[arg(long, default_value = "8")]
    pub(super) root_volume_gb: f64,
    /// Gigabytes of the gp3 volume for the proxy's journal; the Terraform module's unless told
    /// otherwise.
    #[arg(long, default_value = "20")]
    journal_volume_gb: f64,
}

/// What is asked of it in some hours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) invocations: f64,
    pub(super) hours: f64,
    /// Of the proxy.
    pub(super) machines: f64,
    pub(super) backing_store: bool,
}

/// Dollars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Running {
    pub(super) logs: f64,
    pub(super) api_path: f64,
    pub(super) volumes: f64,
    pub(super) watch: f64,
}

impl Running {
    pub(super) fn total(&self) -> f64 {
        self.logs + self.api_path + self.volumes + self.watch
    }
}

impl RunningArgs {
    pub(super) fn check(&self) -> Result<()> {
        for (flag, gb) in [
            ("--root-volume-gb", self.root_volume_gb),
            ("--journal-volume-gb", self.journal_volume_gb),
        ] {
            ensure!(
                (0.0..=MAX_VOLUME_GB).contains(&gb),
                "{flag} must be 0 to {MAX_VOLUME_GB}"
            );
        }
        Ok(())
    }

    pub(super) fn usd(&self, load: Load, prices: &PriceFile) -> Result<Running> {
        let Load {
            invocations,
            hours,
            machines,
            backing_store,
        } = load;
        let vpc = |what| prices.usd(&["vpc", what]);
        let address = || vpc("public_ipv4_h");
        let moved_gb = invocations * INVOKE_BYTES / 1e9;
        let logs = match self.platform_logs {
            Switch::Off => 0.0,
            Switch::On => {
                let gb = invocations * LOG_BYTES_PER_INVOCATION / 1e9;
                gb * prices.usd(&["cloudwatch_logs", "ingestion_gb"])?
            }
        };
        let api_path = match self.api_path {
            ApiPath::PublicAddress => machines * hours * address()?,
            // in the one zone of the pool
            ApiPath::InterfaceEndpoint => {
                hours * vpc("interface_endpoint_h")? + moved_gb * vpc("interface_endpoint_gb")?
            }
            // it has a public address itself
            ApiPath::NatGateway => {
                hours * (vpc("nat_gateway_h")? + address()?) + moved_gb * vpc("nat_gateway_gb")?
            }
        };
        let gb = machines * (self.root_volume_gb + self.journal_volume_gb);
        let volumes = gb * hours / HOURS_OF_MONTH * prices.usd(&["ebs", "gp3_gb_month"])?;
        let watch = match self.watch {
            Switch::Off => 0.0,
            Switch::On => machines * hours * watch_usd_per_hour(backing_store, prices)?,
        };
        Ok(Running {
            logs,
            api_path,
            volumes,
            watch,
        })
    }
}

fn watch_usd_per_hour(is_backed: bool, prices: &PriceFile) -> Result<f64> {
    let price = |what| prices.usd(&["cloudwatch", what]);
    let Watched { metrics, alarms } = Watched::of_a_pool(is_backed);
    let kept = metrics as f64 * price("metric_month")? + alarms as f64 * price("alarm_month")?;
    Ok(kept / HOURS_OF_MONTH + METRIC_REQUESTS_PER_HOUR * price("put_request")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(platform_logs: Switch, api_path: ApiPath) -> Running {
        let args = RunningArgs {
            platform_logs,
            watch: platform_logs,
            api_path,
            root_volume_gb: 8.0,
            journal_volume_gb: 8.0,
        };
        let load = Load {
            invocations: 4e6,
            hours: 50.0,
            machines: 1.0,
            backing_store: false,
        };
        args.usd(load, &PriceFile::read(None).unwrap()).unwrap()
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn each_way_costs_what_its_parts_do() {
        let public = usd(Switch::Off, ApiPath::PublicAddress);
        assert_eq!(public.logs, 0.0);
        assert!(close(public.api_path, 0.25), "{public:?}");
        assert!(close(public.volumes, 16.0 * 50.0 / 730.0 * 0.08));
        let endpoint = usd(Switch::On, ApiPath::InterfaceEndpoint);
        assert!(
            close(endpoint.logs, 4e6 * 325.0 / 1e9 * 0.5),
            "{endpoint:?}"
        );
        assert!(close(endpoint.api_path, 0.5 + 8.0 * 0.01));
        assert_eq!(public.watch, 0.0);
        let Watched { metrics, alarms } = Watched::of_a_pool(false);
        let month = metrics as f64 * 0.3 + alarms as f64 * 0.1;
        let watch = 50.0 * (month / 730.0 + 60.0 * 1e-5);
        assert!(close(endpoint.watch, watch), "{endpoint:?}");
        let gateway = usd(Switch::Off, ApiPath::NatGateway);
        assert!(close(gateway.api_path, 50.0 * 0.05 + 8.0 * 0.045));
    }
}
