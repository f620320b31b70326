//! What runs beside functions and the proxy's machine, and costs little each: log lines,
//! the proxy's way to the Lambda API, volumes.

use anyhow::{Result, ensure};
use clap::ValueEnum;

use super::peers::HOURS_OF_MONTH;
use super::prices::PriceFile;

/// START, END and REPORT of an invocation as plain text (74, 53 and 120 bytes with a
/// request id of 36), and the 26 bytes that CloudWatch counts for each event.
const LOG_BYTES_PER_INVOCATION: f64 = 325.0;
/// An invoke and its answer: 1,064 bytes of request as the AWS SDK writes it with TLS on
/// links (read off a socket, docs/cost.md), the rest taken for headers of the answer, its
/// result, and TLS around both.
const INVOKE_BYTES: f64 = 2000.0;
/// No volume is larger.
const MAX_VOLUME_GB: f64 = 65_536.0;

/// Whether the platform writes its own lines about each invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlatformLogs {
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
    platform_logs: PlatformLogs,
    /// The proxy's way to the Lambda API.
    #[arg(long, value_enum, default_value = "public-address")]
    api_path: ApiPath,
    /// Gigabytes of the gp3 volume from which a machine starts, the proxy's and those of others.
    #[arg(long, default_value = "8")]
    pub(super) root_volume_gb: f64,
    /// Gigabytes of the gp3 volume for the proxy's journal.
    #[arg(long, default_value = "8")]
    journal_volume_gb: f64,
}

/// What is asked of it in some hours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) invocations: f64,
    pub(super) hours: f64,
    /// Of the proxy.
    pub(super) machines: f64,
}

/// Dollars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Running {
    pub(super) logs: f64,
    pub(super) api_path: f64,
    pub(super) volumes: f64,
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
        } = load;
        let vpc = |what| prices.usd(&["vpc", what]);
        let address = || vpc("public_ipv4_h");
        let moved_gb = invocations * INVOKE_BYTES / 1e9;
        let logs = match self.platform_logs {
            PlatformLogs::Off => 0.0,
            PlatformLogs::On => {
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
        Ok(Running {
            logs,
            api_path,
            volumes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(platform_logs: PlatformLogs, api_path: ApiPath) -> Running {
        let args = RunningArgs {
            platform_logs,
            api_path,
            root_volume_gb: 8.0,
            journal_volume_gb: 8.0,
        };
        let load = Load {
            invocations: 4e6,
            hours: 50.0,
            machines: 1.0,
        };
        args.usd(load, &PriceFile::read(None).unwrap()).unwrap()
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn each_way_costs_what_its_parts_do() {
        let public = usd(PlatformLogs::Off, ApiPath::PublicAddress);
        assert_eq!(public.logs, 0.0);
        assert!(close(public.api_path, 0.25), "{public:?}");
        assert!(close(public.volumes, 16.0 * 50.0 / 730.0 * 0.08));
        let endpoint = usd(PlatformLogs::On, ApiPath::InterfaceEndpoint);
        assert!(
            close(endpoint.logs, 4e6 * 325.0 / 1e9 * 0.5),
            "{endpoint:?}"
        );
        assert!(close(endpoint.api_path, 0.5 + 8.0 * 0.01));
        let gateway = usd(PlatformLogs::Off, ApiPath::NatGateway);
        assert!(close(gateway.api_path, 50.0 * 0.05 + 8.0 * 0.045));
    }
}
