//! What else could do the work, and what that costs by the hour.

use anyhow::Result;
use serde::Serialize;

use super::prices::{Machine, PriceFile};

/// Share of a node's memory that ElastiCache leaves to data unless told otherwise
/// (`reserved-memory-percent` 25).
const USABLE: f64 = 0.75;
const GIB: f64 = 1.073_741_824;
/// Memory of ElastiCache's nodes in GiB, their SSD if they tier data, and Mbit/s that
/// their network carries without credits. From AWS's tables of node and instance types,
/// recalled: no prices, but not checked either.
const CACHE_NODES: [(&str, f64, f64, f64); 24] = [
    ("t4g.small", 1.37, 0.0, 128.0),
    ("t4g.medium", 3.09, 0.0, 256.0),
    ("m7g.large", 6.38, 0.0, 937.0),
    ("r6g.large", 13.07, 0.0, 750.0),
    ("r6g.xlarge", 26.32, 0.0, 1250.0),
    ("r6g.2xlarge", 52.82, 0.0, 2500.0),
    ("r6g.4xlarge", 105.81, 0.0, 5000.0),
    ("r6g.8xlarge", 209.55, 0.0, 12000.0),
    ("r6g.12xlarge", 317.77, 0.0, 20000.0),
    ("r6g.16xlarge", 419.09, 0.0, 25000.0),
    ("r7g.large", 13.07, 0.0, 937.0),
    ("r7g.xlarge", 26.32, 0.0, 1876.0),
    ("r7g.2xlarge", 52.82, 0.0, 3750.0),
    ("r7g.4xlarge", 105.81, 0.0, 7500.0),
    ("r7g.8xlarge", 209.55, 0.0, 15000.0),
    ("r7g.12xlarge", 317.77, 0.0, 22500.0),
    ("r7g.16xlarge", 419.09, 0.0, 30000.0),
    ("r5.24xlarge", 635.61, 0.0, 25000.0),
    ("r6gd.xlarge", 26.32, 99.33, 1250.0),
    ("r6gd.2xlarge", 52.82, 199.07, 2500.0),
    ("r6gd.4xlarge", 105.81, 398.14, 5000.0),
    ("r6gd.8xlarge", 209.55, 796.28, 12000.0),
    ("r6gd.12xlarge", 317.77, 1194.42, 20000.0),
    ("r6gd.16xlarge", 419.09, 1592.56, 25000.0),
];
/// Mbit/s that machines move from and to volumes without credits. Recalled as well.
const VOLUME_MBPS: [(&str, f64); 11] = [
    ("c6g.medium", 315.0),
    ("c6g.large", 630.0),
    ("c6g.xlarge", 1188.0),
    ("c6g.2xlarge", 2375.0),
    ("c6g.4xlarge", 4750.0),
    ("c6gn.medium", 760.0),
    ("c6gn.large", 1235.0),
    ("c6gn.xlarge", 2375.0),
    ("c6gn.2xlarge", 4750.0),
    ("c6gn.4xlarge", 9500.0),
    ("c6gn.8xlarge", 19_000.0),
];
/// What a gp3 volume moves without more money.
const VOLUME_MB_S: f64 = 125.0;
const VOLUME_IOPS: f64 = 3000.0;
/// The longest that counts as one operation on it.
const VOLUME_IO_MB: f64 = 0.262_144;
/// What is not in the price file, and was not checked.
pub(crate) const RECALLED: [&str; 2] = [
    "memory, SSD and network of ElastiCache's nodes",
    "how fast machines are with volumes",
];
/// Hours of a month, as AWS counts them.
pub(crate) const HOURS_OF_MONTH: f64 = 730.0;
/// Serverless counts a unit for each KB that is moved.
const BYTES_OF_ECPU: f64 = 1024.0;

/// What is asked of a cache, by the hour.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Demand {
    /// It can hold so much.
    pub(crate) capacity_gb: f64,
    /// It holds so much on the average.
    pub(crate) stored_gb: f64,
    pub(crate) gets: f64,
    pub(crate) sets: f64,
    /// Objects that a cache stores: by SET, and after misses.
    pub(crate) stores: f64,
    pub(crate) read_gb: f64,
    pub(crate) written_gb: f64,
    /// The busiest hour's multiple of the mean.
    pub(crate) peak: f64,
}

impl Demand {
    /// In the direction that has more, in the busiest hour.
    fn busiest_mb_s(&self) -> f64 {
        self.read_gb.max(self.written_gb) * 1e3 / 3600.0 * self.peak
    }

    /// In both.
    fn busiest_volume_mb_s(&self) -> f64 {
        (self.read_gb + self.written_gb) * 1e3 / 3600.0 * self.peak
    }

    /// Operations on a volume, in the busiest hour.
    fn busiest_iops(&self) -> f64 {
        let requests = (self.gets + self.stores) / 3600.0 * self.peak;
        requests.max(self.busiest_volume_mb_s() / VOLUME_IO_MB)
    }
}

/// Another way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// Which machines.
    pub(crate) what: String,
    pub(crate) usd_per_hour: f64,
    pub(crate) capacity_gb: f64,
}

/// All others for this demand, in a fixed order. Machines that one runs by oneself start
/// from a volume of `root_gb`.
pub(crate) fn all(demand: &Demand, prices: &PriceFile, root_gb: f64) -> Result<Vec<Peer>> {
    let factor = prices.usd(&["elasticache", "valkey_3yr_all_upfront_factor"])?;
    let fitting = cache_nodes("elasticache_fitting", demand, prices, false)?;
    let reserved = reserved("elasticache_fitting_reserved", &fitting, factor);
    let tiered = cache_nodes("elasticache_tiered", demand, prices, true)?;
    let papers = Peer {
        name: "elasticache_papers",
        what: "1 x cache.r5.24xlarge, Redis OSS".into(),
        usd_per_hour: prices.usd(&["elasticache", "redis_oss_usd_h", "r5.24xlarge"])?,
        capacity_gb: 635.61 * USABLE * GIB,
    };
    let papers_valkey = Peer {
        usd_per_hour: prices.usd(&["elasticache", "valkey_usd_h", "r5.24xlarge"])?,
        ..papers.clone()
    };
    let papers_reserved = Peer {
        what: "1 x cache.r5.24xlarge, Valkey, 3 years all upfront".into(),
        ..self::reserved("elasticache_papers_reserved", &papers_valkey, factor)
    };
    Ok(vec![
        fitting,
        reserved,
        tiered.clone(),
        self::reserved("elasticache_tiered_reserved", &tiered, factor),
        papers,
        papers_reserved,
        serverless(demand, prices)?,
        nvme(demand, prices, root_gb)?,
        volume(demand, prices, root_gb)?,
        s3_express(demand, prices)?,
        s3(demand, prices)?,
    ])
}

fn reserved(name: &'static str, peer: &Peer, factor: f64) -> Peer {
    Peer {
        name,
        what: format!("{}, 3 years all upfront", peer.what),
        usd_per_hour: peer.usd_per_hour * factor,
        ..peer.clone()
    }
}

/// The cheapest number of nodes of one type into which all fits; one copy of it.
fn cache_nodes(
    name: &'static str,
    demand: &Demand,
    prices: &PriceFile,
    is_tiered: bool,
) -> Result<Peer> {
    let mut best: Option<Peer> = None;
    for (node, memory_gib, ssd_gib, mbps) in CACHE_NODES {
        if (ssd_gib > 0.0) != is_tiered {
            continue;
        }
        let each_gb = (memory_gib * USABLE + ssd_gib) * GIB;
        let by_network = demand.busiest_mb_s() * 8.0 / mbps;
        let count = (demand.capacity_gb / each_gb)
            .max(by_network)
            .ceil()
            .max(1.0);
        let usd_per_hour = count * prices.usd(&["elasticache", "valkey_usd_h", node])?;
        if best.as_ref().is_none_or(|b| usd_per_hour < b.usd_per_hour) {
            best = Some(Peer {
                name,
                what: format!("{count} x cache.{node}, Valkey"),
                usd_per_hour,
                capacity_gb: count * each_gb,
            });
        }
    }
    best.ok_or_else(|| anyhow::anyhow!("no cache node"))
}

fn serverless(demand: &Demand, prices: &PriceFile) -> Result<Peer> {
    let price = |what| prices.usd(&["elasticache_serverless", "valkey", what]);
    let stored_gb = demand.stored_gb.max(price("min_gb")?);
    // at least one for each command
    let by_bytes = (demand.read_gb + demand.written_gb) * 1e9 / BYTES_OF_ECPU;
    let ecpus = by_bytes.max(demand.gets + demand.sets);
    Ok(Peer {
        name: "elasticache_serverless",
        what: "ElastiCache Serverless, Valkey".into(),
        usd_per_hour: stored_gb * price("gb_h")? + ecpus * price("ecpu")?,
        capacity_gb: demand.capacity_gb,
    })
}

/// The cheapest machines with enough NVMe and network.
fn nvme(demand: &Demand, prices: &PriceFile, root_gb: f64) -> Result<Peer> {
    let root_usd_h = root_gb * prices.usd(&["ebs", "gp3_gb_month"])? / HOURS_OF_MONTH;
    let with_nvme = |m: &Machine| m.nvme_gb > 0.0;
    let peer = |m: Machine| {
        let by_space = demand.capacity_gb / m.nvme_gb;
        let by_network = demand.busiest_mb_s() / m.baseline_mb_s;
        let count = by_space.max(by_network).ceil().max(1.0);
        Peer {
            name: "nvme",
            what: format!("{count} x {}, run by yourself", m.name),
            usd_per_hour: count * (m.usd_h + root_usd_h),
            capacity_gb: count * m.nvme_gb,
        }
    };
    let machines = prices.machines()?.into_iter().filter(with_nvme);
    cheapest(machines.map(peer)).ok_or_else(|| {
        let name = prices.name();
        anyhow::anyhow!("{name} has no machine with NVMe (ec2.types, as i8g.large)")
    })
}

/// The cheapest machines that carry it from and to a volume that holds it.
fn volume(demand: &Demand, prices: &PriceFile, root_gb: f64) -> Result<Peer> {
    let ebs = |what| prices.usd(&["ebs", what]);
    let hourly = |what| anyhow::Ok(ebs(what)? / HOURS_OF_MONTH);
    let gb_h = hourly("gp3_gb_month")?;
    let (mb_s_h, iops_h) = (
        hourly("gp3_mb_s_month_over_125")?,
        hourly("gp3_iops_month_over_3000")?,
    );
    let (moved, iops) = (demand.busiest_volume_mb_s(), demand.busiest_iops());
    let machines = prices.machines()?;
    let peer = |(name, mbps): (&str, f64)| {
        let machine = machines.iter().find(|m| m.name == name)?;
        let by_network = demand.busiest_mb_s() / machine.baseline_mb_s;
        let count = (moved * 8.0 / mbps).max(by_network).ceil().max(1.0);
        let more_mb_s = (moved - VOLUME_MB_S * count).max(0.0);
        let more_iops = (iops - VOLUME_IOPS * count).max(0.0);
        let volumes = (demand.capacity_gb + count * root_gb) * gb_h;
        let volumes = volumes + more_mb_s * mb_s_h + more_iops * iops_h;
        Some(Peer {
            name: "volume",
            what: format!("{count} x {name} with gp3, run by yourself"),
            usd_per_hour: count * machine.usd_h + volumes,
            capacity_gb: demand.capacity_gb,
        })
    };
    cheapest(VOLUME_MBPS.into_iter().filter_map(peer)).ok_or_else(|| {
        let name = prices.name();
        anyhow::anyhow!("{name} has no machine for a volume (ec2.types, as c6gn.medium)")
    })
}

fn cheapest(peers: impl Iterator<Item = Peer>) -> Option<Peer> {
    peers.min_by(|a, b| a.usd_per_hour.total_cmp(&b.usd_per_hour))
}

/// S3 in one zone, as the cache: each object that is stored is uploaded, and deleted when
/// it makes room.
fn s3_express(demand: &Demand, prices: &PriceFile) -> Result<Peer> {
    let price = |what| prices.usd(&["s3_express", what]);
    let kept = demand.stored_gb * price("gb_month")? / HOURS_OF_MONTH;
    let requests = demand.gets * price("get")? + demand.stores * price("put")?;
    let moved = demand.read_gb * price("retrieve_gb")? + demand.written_gb * price("upload_gb")?;
    Ok(Peer {
        name: "s3_express",
        what: "S3 Express One Zone, as the cache".into(),
        usd_per_hour: kept + requests + moved,
        capacity_gb: f64::INFINITY,
    })
}

/// No cache: all requests go to S3, which is slower and holds everything.
fn s3(demand: &Demand, prices: &PriceFile) -> Result<Peer> {
    let price = |what| prices.usd(&["s3", what]);
    let kept = demand.stored_gb * price("gb_month")? / HOURS_OF_MONTH;
    Ok(Peer {
        name: "s3",
        what: "S3, no cache".into(),
        usd_per_hour: kept + demand.gets * price("get")? + demand.sets * price("put")?,
        capacity_gb: f64::INFINITY,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(capacity_gb: f64) -> Demand {
        Demand {
            capacity_gb,
            stored_gb: capacity_gb / 2.0,
            gets: 1000.0,
            sets: 100.0,
            stores: 200.0,
            read_gb: 50.0,
            written_gb: 5.0,
            peak: 2.0,
        }
    }

    #[test]
    fn peers_fit_and_cost_what_their_parts_do() {
        let prices = PriceFile::read(None).unwrap();
        let peers = all(&demand(100.0), &prices, 8.0).unwrap();
        let peer = |name| peers.iter().find(|p| p.name == name).unwrap();
        assert!(peers.iter().all(|p| p.capacity_gb >= 100.0), "{peers:?}");
        assert_eq!(peer("elasticache_papers").usd_per_hour, 10.368);
        let reserved = peer("elasticache_fitting_reserved").usd_per_hour;
        assert!((reserved / peer("elasticache_fitting").usd_per_hour - 0.45).abs() < 1e-9);
        // 50 GB, and 55 GB in KB
        let serverless = 50.0 * 0.084 + 55e9 / 1024.0 * 2.3e-9;
        assert!((peer("elasticache_serverless").usd_per_hour - serverless).abs() < 1e-9);
        let s3 = 50.0 * 0.023 / 730.0 + 1000.0 * 4e-7 + 100.0 * 5e-6;
        assert!((peer("s3").usd_per_hour - s3).abs() < 1e-9);
        let express = 50.0 * 0.11 / 730.0 + 1000.0 * 3e-8 + 200.0 * 1.13e-6;
        let express = express + 50.0 * 0.0006 + 5.0 * 0.0032;
        assert!((peer("s3_express").usd_per_hour - express).abs() < 1e-9);
        // 28 MB/s in the busiest hour: one small machine holds it, one carries a volume
        assert!(peer("nvme").what.starts_with("1 x c6gd.large"), "{peers:?}");
        let root = 8.0 * 0.08 / 730.0;
        assert!((peer("nvme").usd_per_hour - (0.0768 + root)).abs() < 1e-9);
        assert!(
            peer("volume").what.starts_with("1 x c6g.medium"),
            "{peers:?}"
        );
        let volume = 0.034 + 108.0 * 0.08 / 730.0;
        assert!((peer("volume").usd_per_hour - volume).abs() < 1e-9);
        assert!(prices.unchecked().iter().any(|p| p == "s3.put"));
        let larger = all(&demand(2000.0), &prices, 8.0).unwrap();
        for (small, large) in peers.iter().zip(&larger) {
            assert!(small.usd_per_hour <= large.usd_per_hour, "{}", small.name);
        }
    }

    #[test]
    fn network_decides_where_it_is_short() {
        let prices = PriceFile::read(None).unwrap();
        let mut busy = demand(100.0);
        let quiet = nvme(&busy, &prices, 8.0).unwrap();
        busy.read_gb = 20_000.0;
        let wide = nvme(&busy, &prices, 8.0).unwrap();
        assert!(wide.usd_per_hour > 5.0 * quiet.usd_per_hour, "{wide:?}");
        // 10,000 small ones a second are more than a volume does without more money
        let small = Demand {
            gets: 36e6,
            read_gb: 0.036,
            peak: 1.0,
            ..demand(1.0)
        };
        let with_iops = volume(&small, &prices, 8.0).unwrap().usd_per_hour;
        let alone = 0.034 + 9.0 * 0.08 / 730.0;
        let iops = 7000.0 + 200.0 / 3600.0;
        assert!(
            (with_iops - alone - iops * 0.005 / 730.0).abs() < 1e-6,
            "{with_iops}"
        );
        // 11 GB/s are 89 Gbit/s: five of 20 cost less than four of 25
        let nodes = cache_nodes("x", &busy, &prices, true).unwrap();
        assert_eq!(nodes.what, "5 x cache.r6gd.12xlarge, Valkey");
    }
}
