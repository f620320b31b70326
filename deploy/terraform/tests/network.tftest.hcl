# Who can reach whom.

mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { name = "us-east-1" }
  }
  override_resource {
    target = aws_security_group.proxy
    values = { id = "sg-proxy" }
  }
  override_resource {
    target = aws_security_group.nodes
    values = { id = "sg-nodes" }
  }
}

variables {
  name                = "test-pool"
  tags                = {}
  zone                = "us-east-1a"
  vpc_id              = null
  vpc_cidr            = "10.87.0.0/16"
  proxy_subnet_cidr   = "10.87.0.0/28"
  node_subnet_cidr    = "10.87.1.0/26"
  internet_gateway_id = null
  lambda_api          = "public"
  private_dns_for_vpc = false
  session_manager     = true
  client_cidrs        = ["10.0.0.0/16", "10.1.0.0/16"]
  client_port         = 6379
  link_port           = 7000
}

run "by_a_public_address" {
  module {
    source = "./modules/network"
  }
  assert {
    condition     = aws_subnet.proxy.availability_zone == "us-east-1a" && aws_subnet.nodes.availability_zone == "us-east-1a"
    error_message = "both subnets are in the one zone"
  }
  assert {
    condition     = toset([for rule in aws_vpc_security_group_ingress_rule.clients : rule.cidr_ipv4]) == var.client_cidrs
    error_message = "only the given addresses reach Redis"
  }
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.clients : rule.from_port == 6379 && rule.to_port == 6379 && rule.security_group_id == "sg-proxy"])
    error_message = "clients reach the client port and nothing else"
  }
  assert {
    condition = (
      aws_vpc_security_group_ingress_rule.links.security_group_id == "sg-proxy"
      && aws_vpc_security_group_ingress_rule.links.referenced_security_group_id == "sg-nodes"
      && aws_vpc_security_group_ingress_rule.links.cidr_ipv4 == null
      && aws_vpc_security_group_ingress_rule.links.from_port == 7000
      && aws_vpc_security_group_ingress_rule.links.to_port == 7000
    )
    error_message = "only nodes reach the link port"
  }
  assert {
    condition = (
      aws_vpc_security_group_egress_rule.links.security_group_id == "sg-nodes"
      && aws_vpc_security_group_egress_rule.links.referenced_security_group_id == "sg-proxy"
      && aws_vpc_security_group_egress_rule.links.from_port == 7000
    )
    error_message = "nodes reach the proxy and nobody else"
  }
  assert {
    condition     = aws_route.internet[0].route_table_id == aws_route_table.proxy.id && aws_route_table_association.nodes.route_table_id == aws_route_table.nodes.id
    error_message = "the proxy has a way out; the nodes have none"
  }
  assert {
    condition     = length(aws_vpc_endpoint.service) == 0 && length(aws_security_group.endpoints) == 0
    error_message = "no endpoints that cost something"
  }
  assert {
    condition     = output.proxy_address == "10.87.0.13" && aws_ec2_subnet_cidr_reservation.proxy_address.cidr_block == "10.87.0.13/32"
    error_message = "the address is nobody else's"
  }
}

run "by_endpoints" {
  module {
    source = "./modules/network"
  }
  variables {
    lambda_api = "endpoint"
  }
  assert {
    condition     = toset(keys(aws_vpc_endpoint.service)) == toset(["lambda", "ec2", "ssm", "monitoring", "ssmmessages"])
    error_message = "an endpoint for each service that the machine talks to"
  }
  assert {
    condition     = length(aws_internet_gateway.own) == 0 && length(aws_route.internet) == 0 && length(aws_vpc_security_group_egress_rule.aws) == 0
    error_message = "no way to the internet at all"
  }
  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.vpc) == 0
    error_message = "nobody but the proxy"
  }
}

run "by_endpoints_without_session_manager" {
  module {
    source = "./modules/network"
  }
  variables {
    lambda_api      = "endpoint"
    session_manager = false
  }
  assert {
    condition     = !contains(keys(aws_vpc_endpoint.service), "ssmmessages")
    error_message = "nothing is paid that is not used"
  }
}

run "in_an_existing_network" {
  module {
    source = "./modules/network"
  }
  variables {
    vpc_id              = "vpc-mine"
    internet_gateway_id = "igw-mine"
  }
  assert {
    condition     = length(aws_vpc.own) == 0 && aws_subnet.proxy.vpc_id == "vpc-mine" && aws_subnet.nodes.vpc_id == "vpc-mine"
    error_message = "subnets are made in the VPC that there is"
  }
  assert {
    condition     = aws_route.internet[0].gateway_id == "igw-mine" && length(aws_internet_gateway.own) == 0
    error_message = "its gateway is used"
  }
}

run "endpoints_for_all_of_an_existing_network" {
  module {
    source = "./modules/network"
  }
  variables {
    vpc_id              = "vpc-mine"
    lambda_api          = "endpoint"
    private_dns_for_vpc = true
  }
  override_data {
    target = data.aws_vpc.existing[0]
    values = { cidr_block_associations = [{ cidr_block = "10.9.0.0/16" }, { cidr_block = "10.10.0.0/16" }] }
  }
  assert {
    condition     = toset([for rule in aws_vpc_security_group_ingress_rule.vpc : rule.cidr_ipv4]) == toset(["10.9.0.0/16", "10.10.0.0/16"])
    error_message = "who is led to the endpoints is let in"
  }
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.vpc : rule.from_port == 443 && rule.to_port == 443 && rule.security_group_id == aws_security_group.endpoints[0].id])
    error_message = "to the endpoints, and nothing else"
  }
}
