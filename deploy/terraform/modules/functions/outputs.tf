output "role_arn" {
  description = "The functions' role."
  value       = aws_iam_role.node.arn
}

output "arns" {
  description = "ARNs of the functions by name."
  value       = { for name, function in aws_lambda_function.node : name => function.arn }
}

output "log_group" {
  description = "The log group of all of them."
  value       = aws_cloudwatch_log_group.nodes.name
}
