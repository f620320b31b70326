# What the pool costs while nobody uses it. Machines: us-east-1, on demand, as in
# bench/prices/us-east-1.json.

locals {
  machine_usd_h = {
    "c6a.large"    = 0.0765
    "c6g.medium"   = 0.034
    "c7a.medium"   = 0.05132
    "c8a.medium"   = 0.05389
    "c8i.large"    = 0.09371
    "c5n.large"    = 0.108
    "c5n.xlarge"   = 0.216
    "c6gn.medium"  = 0.0432
    "c6gn.large"   = 0.0864
    "c6gn.xlarge"  = 0.1728
    "c6gn.2xlarge" = 0.3456
    "c6in.large"   = 0.1134
    "c6in.xlarge"  = 0.2268
    "c6in.2xlarge" = 0.4536
    "c7gn.medium"  = 0.0624
    "c7gn.large"   = 0.1248
    "c7gn.xlarge"  = 0.2496
    "c7gn.2xlarge" = 0.4992
    "c8gn.medium"  = 0.0593
    "c8gn.large"   = 0.1185
    "c8gn.xlarge"  = 0.237
    "c8gn.2xlarge" = 0.474
  }

  month_h        = 730
  gb_s_usd       = { x86_64 = var.prices.x86_64_gb_s_usd, arm64 = var.prices.arm64_gb_s_usd }[var.architecture]
  round_s        = try(tonumber(var.settings.backup_interval_s), 45)
  rounds_per_h   = var.nodes * 3600 / local.round_s
  round_gb_s     = 0.031 * var.node_memory_mb / 1024
  endpoints      = var.lambda_api == "endpoint" ? 4 + (var.session_manager ? 1 : 0) : 0
  way_usd_h      = local.endpoints * var.prices.endpoint_usd_h + (var.lambda_api == "public" ? var.prices.public_ipv4_usd_h : 0)
  known_machine  = try(coalesce(var.prices.machine_usd_h, lookup(local.machine_usd_h, local.instance_type, null)), null)
  watch_usd_h    = (module.watch.metrics * var.prices.metric_month + module.watch.alarms * var.prices.alarm_month) / local.month_h + 60 * var.prices.put_metrics_usd
  journal_usd_h  = (var.journal_gb + 8) * var.prices.volume_gb_month / local.month_h
  requests_usd_h = local.rounds_per_h * 2 * var.prices.request_usd
  duration_usd_h = local.rounds_per_h * local.round_gb_s * local.gb_s_usd

  # A round of a node with nothing to copy: two requests, 31 ms of its instances (docs/cost.md).
  idle_usd_h = {
    requests = local.requests_usd_h
    duration = local.duration_usd_h
    machine  = local.known_machine
    network  = local.way_usd_h
    volumes  = local.journal_usd_h
    watching = local.watch_usd_h
  }
}
