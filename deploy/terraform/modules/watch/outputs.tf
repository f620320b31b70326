output "topic_arn" {
  description = "Where alarms go."
  value       = aws_sns_topic.alarms.arn
}

output "dashboard" {
  description = "Name of the dashboard."
  value       = aws_cloudwatch_dashboard.pool.dashboard_name
}

output "metrics" {
  description = "How many custom metrics there are."
  value       = length(local.sent)
}

output "alarms" {
  description = "How many alarms there are."
  value       = length(local.alarms)
}
