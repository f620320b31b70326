# The proxy's machine: a group of one, whose replacement takes over the journal's volume and the
# address.

data "aws_caller_identity" "here" {}
data "aws_partition" "here" {}
data "aws_region" "here" {}

locals {
  arn_prefix = "arn:${data.aws_partition.here.partition}"
  region     = data.aws_region.here.name
  account    = data.aws_caller_identity.here.account_id
  machine    = var.architecture == "arm64" ? "arm64" : "x86_64"
  newest_ami = "resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-${local.machine}"

  settings = merge(
    { log_format = "json" },
    var.settings,
    {
      listen          = var.tls_port == null ? "0.0.0.0:6379" : "127.0.0.1:6379"
      admin           = "127.0.0.1:9121"
      nodes           = var.nodes
      node_memory_mb  = var.node_memory_mb
      data_parity     = var.data_parity
      lambda_endpoint = "aws"
      function_prefix = var.function_prefix
      link_listen     = "0.0.0.0:${var.link_port}"
    },
    var.backing_bucket == null ? {} : { backing_store = "s3://${var.backing_bucket}/cache" },
  )
  # JSON's strings, numbers, booleans and lists of strings are TOML's, too.
  toml = join("", [for key, value in local.settings : "${key} = ${jsonencode(value)}\n"])

  settings_name = "/scatterhoard/${var.name}/scatterhoard.toml"

  user_data = templatefile("${path.module}/user-data.sh.tftpl", {
    region    = local.region
    address   = var.address
    volume    = aws_ebs_volume.journal.id
    secrets   = var.secrets_path
    config    = local.settings_name
    link_port = var.link_port
    tls_port  = var.tls_port == null ? "" : var.tls_port
    pool      = var.name
    bucket    = var.package.bucket
    key       = var.package.key
    sha256    = var.package.sha256
  })
}

# What the proxy reads at each start. Not in the user data: a change there replaces the machine.
resource "aws_ssm_parameter" "settings" {
  name        = local.settings_name
  description = "Scatterhoard ${var.name}: scatterhoard.toml, made by Terraform"
  # no secrets in it
  type   = var.kms_key_arn == null ? "String" : "SecureString"
  key_id = var.kms_key_arn
  value  = local.toml
  tags   = var.tags

  lifecycle {
    precondition {
      condition     = length(base64encode(local.toml)) / 4 * 3 <= 4096
      error_message = "settings are too long: scatterhoard.toml has at most 4096 bytes, which is what a parameter holds."
    }
  }
}

resource "aws_ebs_volume" "journal" {
  availability_zone = var.zone
  size              = var.journal_gb
  type              = "gp3"
  encrypted         = true
  kms_key_id        = var.kms_key_arn
  final_snapshot    = var.journal_snapshot
  tags              = merge(var.tags, { Name = "${var.name}-journal" })

  # the machine that has it is replaced by one with the new one first
  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_launch_template" "proxy" {
  name_prefix            = "${var.name}-proxy-"
  image_id               = coalesce(var.ami_id, local.newest_ami)
  instance_type          = var.instance_type
  update_default_version = true
  user_data              = base64encode(local.user_data)
  tags                   = var.tags

  iam_instance_profile {
    arn = aws_iam_instance_profile.proxy.arn
  }

  network_interfaces {
    associate_public_ip_address = var.public_address
    subnet_id                   = var.subnet_id
    security_groups             = [var.security_group_id]
    delete_on_termination       = true
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_size           = 8
      volume_type           = "gp3"
      encrypted             = true
      kms_key_id            = var.kms_key_arn
      delete_on_termination = true
    }
  }

  dynamic "tag_specifications" {
    for_each = toset(["instance", "network-interface", "volume"])

    content {
      resource_type = tag_specifications.key
      tags          = merge(var.tags, { Name = "${var.name}-proxy" })
    }
  }
}

resource "aws_autoscaling_group" "proxy" {
  name_prefix         = "${var.name}-proxy-"
  vpc_zone_identifier = [var.subnet_id]
  min_size            = 1
  max_size            = 1
  desired_capacity    = 1
  health_check_type   = "EC2"
  # A machine that starts waits for the volume first.
  health_check_grace_period = 300
  # Terraform does not wait for a machine: it may wait for its password.
  wait_for_capacity_timeout = "0"

  launch_template {
    id      = aws_launch_template.proxy.id
    version = aws_launch_template.proxy.latest_version
  }

  # The old machine goes first: there is one volume, and one address.
  instance_maintenance_policy {
    min_healthy_percentage = 0
    max_healthy_percentage = 100
  }

  # A new template (a newer program, another type) replaces the machine.
  instance_refresh {
    strategy = "Rolling"

    preferences {
      min_healthy_percentage = 0
    }
  }

  dynamic "tag" {
    for_each = merge(var.tags, { Name = "${var.name}-proxy" })

    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = true
    }
  }

  # Without its rights and settings a machine would not get far.
  depends_on = [aws_iam_role_policy.proxy, aws_ssm_parameter.settings]
}
