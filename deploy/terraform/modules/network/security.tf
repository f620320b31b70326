# Who may talk to whom. Rules are resources of their own, so that they can refer to each other.

resource "aws_security_group" "proxy" {
  name_prefix = "${var.name}-proxy-"
  description = "Scatterhoard ${var.name}: the proxy"
  vpc_id      = local.vpc_id
  tags        = merge(var.tags, { Name = "${var.name}-proxy" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_security_group" "nodes" {
  name_prefix = "${var.name}-nodes-"
  description = "Scatterhoard ${var.name}: the functions"
  vpc_id      = local.vpc_id
  tags        = merge(var.tags, { Name = "${var.name}-nodes" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_security_group" "endpoints" {
  count = local.public ? 0 : 1

  name_prefix = "${var.name}-endpoints-"
  description = "Scatterhoard ${var.name}: interface endpoints"
  vpc_id      = local.vpc_id
  tags        = merge(var.tags, { Name = "${var.name}-endpoints" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each = var.client_cidrs

  security_group_id = aws_security_group.proxy.id
  description       = "Redis clients"
  cidr_ipv4         = each.key
  ip_protocol       = "tcp"
  from_port         = var.client_port
  to_port           = var.client_port
  tags              = var.tags
}

resource "aws_vpc_security_group_ingress_rule" "links" {
  security_group_id            = aws_security_group.proxy.id
  description                  = "nodes dial"
  referenced_security_group_id = aws_security_group.nodes.id
  ip_protocol                  = "tcp"
  from_port                    = var.link_port
  to_port                      = var.link_port
  tags                         = var.tags
}

resource "aws_vpc_security_group_egress_rule" "links" {
  security_group_id            = aws_security_group.nodes.id
  description                  = "nodes dial the proxy, and nobody else"
  referenced_security_group_id = aws_security_group.proxy.id
  ip_protocol                  = "tcp"
  from_port                    = var.link_port
  to_port                      = var.link_port
  tags                         = var.tags
}

resource "aws_vpc_security_group_egress_rule" "aws" {
  count = local.public ? 1 : 0

  security_group_id = aws_security_group.proxy.id
  description       = "AWS: Lambda, EC2, SSM, CloudWatch"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  tags              = var.tags
}

data "aws_prefix_list" "s3" {
  count = local.public ? 0 : 1

  name = "com.amazonaws.${data.aws_region.here.name}.s3"
}

# With a public address the rule above covers it.
resource "aws_vpc_security_group_egress_rule" "s3" {
  count = local.public ? 0 : 1

  security_group_id = aws_security_group.proxy.id
  description       = "S3: artefacts, packages of the system, the backing store"
  prefix_list_id    = data.aws_prefix_list.s3[0].id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  tags              = var.tags
}

resource "aws_vpc_security_group_egress_rule" "endpoints" {
  count = local.public ? 0 : 1

  security_group_id            = aws_security_group.proxy.id
  description                  = "AWS by interface endpoints"
  referenced_security_group_id = aws_security_group.endpoints[0].id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  tags                         = var.tags
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  count = local.public ? 0 : 1

  security_group_id            = aws_security_group.endpoints[0].id
  description                  = "the proxy"
  referenced_security_group_id = aws_security_group.proxy.id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  tags                         = var.tags
}

# In an existing VPC names lead everybody here.
data "aws_vpc" "existing" {
  count = local.shared ? 1 : 0

  id = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "vpc" {
  for_each = toset(flatten(data.aws_vpc.existing[*].cidr_block_associations[*].cidr_block))

  security_group_id = aws_security_group.endpoints[0].id
  description       = "others of this VPC"
  cidr_ipv4         = each.key
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  tags              = var.tags
}
