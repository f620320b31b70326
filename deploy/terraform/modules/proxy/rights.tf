# What the proxy's machine may do.

locals {
  # Patterns for exactly these functions: names by the hundred, the ten and the one, since a list
  # of 400 names is longer than a policy may be.
  hundreds = floor(var.nodes / 100)
  tens     = floor(var.nodes % 100 / 10)
  ones     = var.nodes % 10
  suffixes = concat(
    [for i in range(local.hundreds) : "${i}??"],
    [for i in range(local.tens) : "${local.hundreds}${i}?"],
    [for i in range(local.ones) : "${local.hundreds}${local.tens}${i}"],
  )
  function_arns = [
    for suffix in local.suffixes :
    "${local.arn_prefix}:lambda:${local.region}:${local.account}:function:${var.function_prefix}-${suffix}"
  ]
}

resource "aws_iam_role" "proxy" {
  name_prefix        = "${var.name}-proxy-"
  description        = "Scatterhoard ${var.name}: the proxy's machine"
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = var.tags
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_instance_profile" "proxy" {
  name_prefix = "${var.name}-proxy-"
  role        = aws_iam_role.proxy.name
  tags        = var.tags
}

resource "aws_iam_role_policy" "proxy" {
  name   = "proxy"
  role   = aws_iam_role.proxy.id
  policy = data.aws_iam_policy_document.proxy.json
}

data "aws_iam_policy_document" "proxy" {
  statement {
    sid       = "Invoke"
    actions   = ["lambda:InvokeFunction"]
    resources = local.function_arns
  }

  # What is checked at the start and by `doctor`; quotas know no resources.
  statement {
    sid       = "LookAtFunctions"
    actions   = ["lambda:GetFunctionConfiguration", "lambda:GetFunctionConcurrency"]
    resources = local.function_arns
  }

  statement {
    sid       = "LookAtQuotas"
    actions   = ["lambda:GetAccountSettings"]
    resources = ["*"]
  }

  statement {
    sid       = "Program"
    actions   = ["s3:GetObject"]
    resources = ["${local.arn_prefix}:s3:::${var.package.bucket}/${var.package.key}"]
  }

  statement {
    sid     = "SettingsAndSecrets"
    actions = ["ssm:GetParameter"]
    resources = [
      "${local.arn_prefix}:ssm:${local.region}:${local.account}:parameter${local.settings_name}",
      "${local.arn_prefix}:ssm:${local.region}:${local.account}:parameter${var.secrets_path}/*",
    ]
  }

  # The journal's volume, settings, the program, the backing store.
  dynamic "statement" {
    for_each = var.kms_key_arn == null ? [] : [var.kms_key_arn]

    content {
      sid       = "Key"
      actions   = ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncrypt*"]
      resources = [statement.value]
    }
  }

  # EC2 asks for it when a volume is attached.
  dynamic "statement" {
    for_each = var.kms_key_arn == null ? [] : [var.kms_key_arn]

    content {
      sid       = "KeyForVolumes"
      actions   = ["kms:CreateGrant"]
      resources = [statement.value]

      condition {
        test     = "Bool"
        variable = "kms:GrantIsForAWSResource"
        values   = ["true"]
      }
    }
  }

  dynamic "statement" {
    for_each = var.secrets_key_arn == null ? [] : [var.secrets_key_arn]

    content {
      sid       = "SecretsKey"
      actions   = ["kms:Decrypt"]
      resources = [statement.value]

      condition {
        test     = "StringLike"
        variable = "kms:EncryptionContext:PARAMETER_ARN"
        values   = ["${local.arn_prefix}:ssm:${local.region}:${local.account}:parameter${var.secrets_path}/*"]
      }
    }
  }

  statement {
    sid       = "JournalVolume"
    actions   = ["ec2:AttachVolume"]
    resources = ["${local.arn_prefix}:ec2:${local.region}:${local.account}:volume/${aws_ebs_volume.journal.id}"]
  }

  # To machines of this pool, and their interfaces.
  statement {
    sid       = "JournalVolumeToThisMachine"
    actions   = ["ec2:AttachVolume"]
    resources = ["${local.arn_prefix}:ec2:${local.region}:${local.account}:instance/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/ScatterhoardPool"
      values   = [var.name]
    }
  }

  statement {
    sid       = "Address"
    actions   = ["ec2:AssignPrivateIpAddresses"]
    resources = ["${local.arn_prefix}:ec2:${local.region}:${local.account}:network-interface/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/ScatterhoardPool"
      values   = [var.name]
    }
  }

  statement {
    sid       = "Metrics"
    actions   = ["cloudwatch:PutMetricData"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "cloudwatch:namespace"
      values   = ["Scatterhoard"]
    }
  }

  dynamic "statement" {
    for_each = var.backing_bucket == null ? [] : [var.backing_bucket]

    content {
      sid       = "BackingObjects"
      actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
      resources = ["${local.arn_prefix}:s3:::${statement.value}/cache/*"]
    }
  }

  dynamic "statement" {
    for_each = var.backing_bucket == null ? [] : [var.backing_bucket]

    content {
      sid       = "BackingList"
      actions   = ["s3:ListBucket"]
      resources = ["${local.arn_prefix}:s3:::${statement.value}"]
    }
  }

  # Session Manager's channels; who may come in is for other people's policies.
  dynamic "statement" {
    for_each = var.session_manager ? [1] : []

    content {
      sid = "SessionManager"
      actions = [
        "ssm:UpdateInstanceInformation",
        "ssmmessages:CreateControlChannel",
        "ssmmessages:CreateDataChannel",
        "ssmmessages:OpenControlChannel",
        "ssmmessages:OpenDataChannel",
      ]
      resources = ["*"]
    }
  }
}
