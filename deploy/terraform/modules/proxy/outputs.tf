output "role_arn" {
  description = "The role of the proxy's machine."
  value       = aws_iam_role.proxy.arn
}

output "asg_name" {
  description = "The group of one."
  value       = aws_autoscaling_group.proxy.name
}

output "volume_id" {
  description = "The journal's volume."
  value       = aws_ebs_volume.journal.id
}
