# A pool: N functions, and the proxy that invokes them and that clients connect to.

locals {
  # Costs can be told apart by it, and rights hang on it.
  tags           = { ScatterhoardPool = var.name }
  link_port      = 7000
  secrets_path   = coalesce(var.secrets_path, "/scatterhoard/${var.name}")
  default_type   = { x86_64 = "c5n.large", arm64 = "c6gn.medium" }[var.architecture]
  instance_type  = coalesce(var.proxy_instance_type, local.default_type)
  client_port    = var.tls ? 6380 : 6379
  data_parity    = [for part in split("+", var.data_parity) : tonumber(part)]
  zone           = coalesce(var.availability_zone, data.aws_availability_zones.here.names[0])
  function_names = [for i in range(var.nodes) : format("%s-node-%03d", var.name, i)]
}

# Of whatever state: a zone that is away for a day must not move the pool to another one.
data "aws_availability_zones" "here" {
  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

# Which zones have that machine.
data "aws_ec2_instance_type_offerings" "proxy" {
  location_type = "availability-zone"

  filter {
    name   = "instance-type"
    values = [local.instance_type]
  }
}

# What is installed. Names have the hash of what is in it: an old version can be had again.

resource "aws_s3_bucket" "artefacts" {
  bucket_prefix = "${var.name}-artefacts-"
  force_destroy = true
  tags          = local.tags
}

resource "aws_s3_bucket_public_access_block" "artefacts" {
  bucket                  = aws_s3_bucket.artefacts.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# What an apply that was ended has left of an upload is paid for, and seen by nobody.
resource "aws_s3_bucket_lifecycle_configuration" "artefacts" {
  bucket = aws_s3_bucket.artefacts.id

  rule {
    id     = "unfinished-uploads"
    status = "Enabled"
    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "artefacts" {
  count = var.kms_key_arn == null ? 0 : 1

  bucket = aws_s3_bucket.artefacts.id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

resource "aws_s3_object" "node" {
  bucket = aws_s3_bucket.artefacts.id
  key    = "node-${filesha256(var.node_package)}.zip"
  source = var.node_package
  tags   = local.tags

  # what refers to the old one is changed first
  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_s3_object" "proxy" {
  bucket = aws_s3_bucket.artefacts.id
  key    = "proxy-${filesha256(var.proxy_package)}.tar.gz"
  source = var.proxy_package
  tags   = local.tags

  # what refers to the old one is changed first
  lifecycle {
    create_before_destroy = true
  }
}

module "network" {
  source = "./modules/network"

  name                = var.name
  tags                = local.tags
  zone                = local.zone
  vpc_id              = var.vpc_id
  vpc_cidr            = var.vpc_cidr
  proxy_subnet_cidr   = var.proxy_subnet_cidr
  node_subnet_cidr    = var.node_subnet_cidr
  internet_gateway_id = var.internet_gateway_id
  lambda_api          = var.lambda_api
  private_dns_for_vpc = var.private_dns_for_vpc
  session_manager     = var.session_manager
  client_cidrs        = var.client_cidrs
  client_port         = local.client_port
  link_port           = local.link_port
}

module "functions" {
  source = "./modules/functions"

  name                 = var.name
  tags                 = local.tags
  names                = local.function_names
  architecture         = var.architecture
  memory_mb            = var.node_memory_mb
  timeout_s            = var.function_timeout_s
  reserved_concurrency = var.reserved_concurrency
  package              = { bucket = aws_s3_object.node.bucket, key = aws_s3_object.node.key, sha256 = filebase64sha256(var.node_package) }
  network              = { subnet_id = module.network.node_subnet_id, security_group_id = module.network.node_security_group_id }
  log_retention_days   = var.log_retention_days
  kms_key_arn          = var.kms_key_arn
}

module "proxy" {
  source = "./modules/proxy"

  name              = var.name
  tags              = local.tags
  zone              = local.zone
  architecture      = var.architecture
  instance_type     = local.instance_type
  ami_id            = var.ami_id
  subnet_id         = module.network.proxy_subnet_id
  security_group_id = module.network.proxy_security_group_id
  address           = module.network.proxy_address
  public_address    = var.lambda_api == "public"
  package           = { bucket = aws_s3_object.proxy.bucket, key = aws_s3_object.proxy.key, sha256 = filesha256(var.proxy_package) }
  journal_gb        = var.journal_gb
  journal_snapshot  = var.journal_snapshot
  secrets_path      = local.secrets_path
  secrets_key_arn   = var.secrets_key_arn
  kms_key_arn       = var.kms_key_arn
  tls_port          = var.tls ? local.client_port : null
  link_port         = local.link_port
  session_manager   = var.session_manager
  function_prefix   = "${var.name}-node"
  nodes             = var.nodes
  node_memory_mb    = var.node_memory_mb
  data_parity       = var.data_parity
  settings          = merge({ function_timeout_s = var.function_timeout_s }, var.settings)
  backing_bucket    = one(aws_s3_bucket.backing[*].id)

  depends_on = [module.network]
}

module "watch" {
  source = "./modules/watch"

  name                = var.name
  tags                = local.tags
  nodes               = var.nodes
  asg_name            = module.proxy.asg_name
  account_concurrency = var.account_concurrency
  log_group           = module.functions.log_group
  backing_store       = var.backing_store
  alarm_emails        = var.alarm_emails
  monthly_budget_usd  = var.monthly_budget_usd
}
