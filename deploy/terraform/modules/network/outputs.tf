output "vpc_id" {
  description = "The VPC."
  value       = local.vpc_id
}

output "proxy_subnet_id" {
  description = "The proxy's subnet; there when it has its way out."
  value       = aws_subnet.proxy.id
}

output "node_subnet_id" {
  description = "The functions' subnet."
  value       = aws_subnet.nodes.id
}

output "proxy_security_group_id" {
  description = "The proxy's security group."
  value       = aws_security_group.proxy.id
}

output "node_security_group_id" {
  description = "The functions' security group."
  value       = aws_security_group.nodes.id
}

output "proxy_address" {
  description = "The address that moves along with the proxy."
  value       = local.proxy_address
}

output "proxy_route_table_id" {
  description = "Route table of the proxy's subnet."
  value       = aws_route_table.proxy.id
}
