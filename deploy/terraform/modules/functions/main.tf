# The nodes: N functions of the same code, one role, one log group.

data "aws_caller_identity" "here" {}
data "aws_partition" "here" {}
data "aws_region" "here" {}

locals {
  function_arns = "arn:${data.aws_partition.here.partition}:lambda:${data.aws_region.here.name}:${data.aws_caller_identity.here.account_id}:function:${var.name}-node-*"
}

resource "aws_cloudwatch_log_group" "nodes" {
  name              = "/scatterhoard/${var.name}/nodes"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = var.tags
}

resource "terraform_data" "architecture" {
  input = var.architecture
}

resource "aws_lambda_function" "node" {
  for_each = toset(var.names)

  function_name    = each.key
  description      = "Scatterhoard ${var.name}: keeps chunks in its memory"
  role             = aws_iam_role.node.arn
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.architecture]
  memory_size      = var.memory_mb
  timeout          = var.timeout_s
  s3_bucket        = var.package.bucket
  s3_key           = var.package.key
  source_code_hash = var.package.sha256
  # null: none reserved
  reserved_concurrent_executions = coalesce(var.reserved_concurrency, -1)
  tags                           = var.tags

  environment {
    variables = {
      # freed memory goes back to the system at once: it is what the next chunk needs
      MIMALLOC_PURGE_DELAY = "0"
      SCATTERHOARD_LOG     = "warn"
    }
  }

  vpc_config {
    subnet_ids         = [var.network.subnet_id]
    security_group_ids = [var.network.security_group_id]
  }

  # Two lines for each invocation would cost more than the invocation: warnings only.
  logging_config {
    log_format            = "JSON"
    system_log_level      = "WARN"
    application_log_level = "WARN"
    log_group             = aws_cloudwatch_log_group.nodes.name
  }

  # New code empties what it is given to: `scatterhoard pool update` gives it to emptied nodes, a
  # few at a time. Functions that are made anew get it at once; of another architecture they are,
  # or they would keep code that does not run on it.
  lifecycle {
    ignore_changes       = [s3_key, source_code_hash]
    replace_triggered_by = [terraform_data.architecture]
  }

  # A role that may not yet write or make interfaces is refused.
  depends_on = [aws_iam_role_policy.node]
}

resource "aws_iam_role" "node" {
  name_prefix        = "${var.name}-node-"
  description        = "Scatterhoard ${var.name}: the functions"
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = var.tags
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

resource "aws_iam_role_policy" "node" {
  name   = "node"
  role   = aws_iam_role.node.id
  policy = data.aws_iam_policy_document.node.json
}

data "aws_iam_policy_document" "node" {
  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.nodes.arn}:*"]
  }

  # Lambda makes the functions' network interfaces by their role, and refuses a function whose role
  # may not. The actions that describe know no resources, and Lambda has no narrower ones.
  statement {
    sid = "NetworkInterfacesByLambda"
    actions = [
      "ec2:AssignPrivateIpAddresses",
      "ec2:CreateNetworkInterface",
      "ec2:DeleteNetworkInterface",
      "ec2:DescribeNetworkInterfaces",
      "ec2:DescribeSubnets",
      "ec2:UnassignPrivateIpAddresses",
    ]
    resources = ["*"]
  }

  # Lambda, not the code that runs: calls from within a function carry its name.
  statement {
    sid       = "NotByTheCode"
    effect    = "Deny"
    actions   = ["ec2:*"]
    resources = ["*"]

    condition {
      test     = "ArnLike"
      variable = "lambda:SourceFunctionArn"
      values   = [local.function_arns]
    }
  }
}
