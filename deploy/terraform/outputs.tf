output "endpoint" {
  description = "Where clients connect. It stays when the proxy's machine is replaced."
  value       = "${module.network.proxy_address}:${local.client_port}"
}

output "idle_usd_per_hour" {
  description = "What it costs while nobody uses it, in total: rounds that keep the nodes warm, the machine, its way to AWS, volumes, metrics and alarms. Null if the machine's price is not known (prices)."
  value       = local.known_machine == null ? null : tonumber(format("%.5f", sum(values(local.idle_usd_h))))
}

output "idle_usd_per_hour_by_part" {
  description = "The same by part."
  value       = { for part, usd in local.idle_usd_h : part => usd == null ? null : tonumber(format("%.7f", usd)) }
}

output "capacity_gb" {
  description = "About how many GB of large objects fit."
  value       = floor(var.nodes * var.node_memory_mb * 1.048576 * 0.9 * local.data_parity[0] / sum(local.data_parity) / 100) / 10
}

output "functions" {
  description = "Names of the nodes' functions."
  value       = local.function_names
}

output "function_prefix" {
  description = "The proxy's setting of that name."
  value       = "${var.name}-node"
}

output "secrets_path" {
  description = "Where secrets belong: requirepass or users.acl must be there before the proxy starts."
  value       = local.secrets_path
}

output "vpc_id" {
  description = "The VPC, for peering."
  value       = module.network.vpc_id
}

output "proxy_route_table_id" {
  description = "The route table of the proxy's subnet, for routes to clients."
  value       = module.network.proxy_route_table_id
}

output "availability_zone" {
  description = "The zone in which clients should be, too."
  value       = local.zone
}

output "proxy_role_arn" {
  description = "The proxy's role."
  value       = module.proxy.role_arn
}

output "node_role_arn" {
  description = "The nodes' role."
  value       = module.functions.role_arn
}

output "autoscaling_group" {
  description = "The group of one that keeps the proxy's machine."
  value       = module.proxy.asg_name
}

output "journal_volume_id" {
  description = "The volume with the journal."
  value       = module.proxy.volume_id
}

output "backing_bucket" {
  description = "The backing store's bucket, if there is one."
  value       = one(aws_s3_bucket.backing[*].id)
}

output "alarm_topic_arn" {
  description = "Where alarms go: subscribe to it."
  value       = module.watch.topic_arn
}

output "dashboard" {
  description = "Name of the CloudWatch dashboard."
  value       = module.watch.dashboard
}
