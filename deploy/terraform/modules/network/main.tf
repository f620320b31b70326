# One zone, two subnets. The proxy's has a way to AWS; the functions' has none at all: nodes dial
# the proxy and nobody else.

locals {
  public = var.lambda_api == "public"
  own    = var.vpc_id == null
  # endpoints that all of an existing VPC is led to
  shared = !local.public && !local.own && var.private_dns_for_vpc
  vpc_id = local.own ? aws_vpc.own[0].id : var.vpc_id
  # The last but two: where no machine gets its own address from (it is reserved below).
  proxy_address = cidrhost(var.proxy_subnet_cidr, -3)
  # What the proxy's machine talks to: functions, attaching the volume, secrets, metrics.
  services = local.public ? [] : concat(
    ["lambda", "ec2", "ssm", "monitoring"],
    var.session_manager ? ["ssmmessages"] : [],
  )
}

data "aws_region" "here" {}

resource "aws_vpc" "own" {
  count = local.own ? 1 : 0

  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = merge(var.tags, { Name = var.name })
}

# The default group of a VPC lets its members talk to each other: nobody is to be one.
resource "aws_default_security_group" "none" {
  count = local.own ? 1 : 0

  vpc_id = aws_vpc.own[0].id
  tags   = merge(var.tags, { Name = "${var.name}-unused" })
}

resource "aws_subnet" "proxy" {
  vpc_id            = local.vpc_id
  availability_zone = var.zone
  cidr_block        = var.proxy_subnet_cidr
  tags              = merge(var.tags, { Name = "${var.name}-proxy" })
}

resource "aws_subnet" "nodes" {
  vpc_id            = local.vpc_id
  availability_zone = var.zone
  cidr_block        = var.node_subnet_cidr
  tags              = merge(var.tags, { Name = "${var.name}-nodes" })
}

resource "aws_ec2_subnet_cidr_reservation" "proxy_address" {
  subnet_id        = aws_subnet.proxy.id
  cidr_block       = "${local.proxy_address}/32"
  reservation_type = "explicit"
  description      = "the address that moves along with the proxy"
}

resource "aws_internet_gateway" "own" {
  count = local.own && local.public ? 1 : 0

  vpc_id = local.vpc_id
  tags   = merge(var.tags, { Name = var.name })
}

resource "aws_route_table" "proxy" {
  vpc_id = local.vpc_id
  tags   = merge(var.tags, { Name = "${var.name}-proxy" })
}

# A resource of its own: routes to clients can be added beside it.
resource "aws_route" "internet" {
  # without a gateway: the root module's check says so
  count = local.public && (local.own || var.internet_gateway_id != null) ? 1 : 0

  route_table_id         = aws_route_table.proxy.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = local.own ? aws_internet_gateway.own[0].id : var.internet_gateway_id
}

resource "aws_route_table_association" "proxy" {
  subnet_id      = aws_subnet.proxy.id
  route_table_id = aws_route_table.proxy.id
}

resource "aws_route_table" "nodes" {
  vpc_id = local.vpc_id
  tags   = merge(var.tags, { Name = "${var.name}-nodes" })
}

resource "aws_route_table_association" "nodes" {
  subnet_id      = aws_subnet.nodes.id
  route_table_id = aws_route_table.nodes.id
}

# Artefacts, packages and the backing store, for nothing and not by the internet.
resource "aws_vpc_endpoint" "s3" {
  vpc_id            = local.vpc_id
  service_name      = "com.amazonaws.${data.aws_region.here.name}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [aws_route_table.proxy.id]
  tags              = merge(var.tags, { Name = "${var.name}-s3" })
}

resource "aws_vpc_endpoint" "service" {
  for_each = toset(local.services)

  vpc_id              = local.vpc_id
  service_name        = "com.amazonaws.${data.aws_region.here.name}.${each.key}"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = [aws_subnet.proxy.id]
  security_group_ids  = [aws_security_group.endpoints[0].id]
  tags                = merge(var.tags, { Name = "${var.name}-${each.key}" })

  # their own addresses are others than the proxy's
  depends_on = [aws_ec2_subnet_cidr_reservation.proxy_address]
}
