# Alarms by the metrics that the proxy's machine sends each minute (scatterhoard-metrics), and by
# what Lambda and EC2 measure themselves. What to do at each: docs/operations.md.

data "aws_caller_identity" "here" {}
data "aws_region" "here" {}

locals {
  pool = { Pool = var.name }
  asg  = { AutoScalingGroupName = var.asg_name }

  # For how many of the last minutes, which statistic against which threshold. `missing`: what it
  # means that nothing is said.
  alarms = merge({
    proxy-down = {
      about     = "The proxy does not answer, or says that too few nodes can be reached."
      namespace = "Scatterhoard", metric = "Healthy", dimensions = local.pool
      statistic = "Minimum", operator = "LessThanThreshold", threshold = 1, minutes = 5, missing = "breaching"
    }
    outage = {
      about     = "Most nodes fail at the same time: the zone is out, or what all of them need. The proxy's log and /healthz say why."
      namespace = "Scatterhoard", metric = "Outage", dimensions = local.pool
      statistic = "Maximum", operator = "GreaterThanThreshold", threshold = 0, minutes = 2, missing = "notBreaching"
    }
    objects-lost = {
      about     = "Objects were lost: more of their nodes than parity lost both instances."
      namespace = "Scatterhoard", metric = "LostObjects", dimensions = local.pool
      statistic = "Sum", operator = "GreaterThanThreshold", threshold = 0, minutes = 1, missing = "notBreaching"
    }
    journal-errors = {
      about     = "The journal cannot be written: writes are refused (MISCONF)."
      namespace = "Scatterhoard", metric = "JournalErrors", dimensions = local.pool
      statistic = "Sum", operator = "GreaterThanThreshold", threshold = 0, minutes = 1, missing = "notBreaching"
    }
    throttled = {
      about     = "Lambda throttles invocations: the account's concurrency, a function's own, or the rate of requests is used up."
      namespace = "Scatterhoard", metric = "Throttled", dimensions = local.pool
      statistic = "Sum", operator = "GreaterThanThreshold", threshold = 10, minutes = 3, missing = "notBreaching"
    }
    refused = {
      about     = "Invocations are refused until somebody does something: a function, a right, credentials, the clock or a quota. The proxy's log names the cause."
      namespace = "Scatterhoard", metric = "Refused", dimensions = local.pool
      statistic = "Sum", operator = "GreaterThanThreshold", threshold = 0, minutes = 3, missing = "notBreaching"
    }
    instances-lost = {
      about     = "The platform takes instances in numbers: half of the pool within a quarter of an hour."
      namespace = "Scatterhoard", metric = "LostInstances", dimensions = local.pool
      statistic = "Sum", operator = "GreaterThanThreshold", threshold = ceil(var.nodes / 30), minutes = 15, missing = "notBreaching"
    }
    repairs-behind = {
      about     = "Repairs do not catch up with losses."
      namespace = "Scatterhoard", metric = "RepairsWaiting", dimensions = local.pool
      statistic = "Minimum", operator = "GreaterThanThreshold", threshold = 1000, minutes = 30, missing = "notBreaching"
    }
    disk-full = {
      about     = "The journal's volume is filling up."
      namespace = "Scatterhoard", metric = "DiskUsed", dimensions = local.pool
      statistic = "Maximum", operator = "GreaterThanThreshold", threshold = 80, minutes = 5, missing = "notBreaching"
    }
    proxy-busy = {
      about     = "The proxy's machine has no processor left."
      namespace = "AWS/EC2", metric = "CPUUtilization", dimensions = local.asg
      statistic = "Average", operator = "GreaterThanThreshold", threshold = 85, minutes = 15, missing = "notBreaching"
    }
    concurrency = {
      about     = "All functions of the account together are near its quota of concurrent executions."
      namespace = "AWS/Lambda", metric = "ConcurrentExecutions", dimensions = {}
      statistic = "Maximum", operator = "GreaterThanThreshold", threshold = floor(0.8 * var.account_concurrency), minutes = 5, missing = "notBreaching"
    }
    }, var.backing_store ? {
    backing-store-away = {
      about     = "The backing store does not answer: writes fail, and reads that need it."
      namespace = "Scatterhoard", metric = "BackingAnswers", dimensions = local.pool
      statistic = "Maximum", operator = "LessThanThreshold", threshold = 1, minutes = 5, missing = "notBreaching"
    }
  } : {})
}

resource "aws_cloudwatch_metric_alarm" "alarm" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.about
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  comparison_operator = each.value.operator
  threshold           = each.value.threshold
  # EC2 measures every five minutes
  period             = each.value.namespace == "AWS/EC2" ? 300 : 60
  evaluation_periods = each.value.namespace == "AWS/EC2" ? each.value.minutes / 5 : each.value.minutes
  treat_missing_data = each.value.missing
  alarm_actions      = [aws_sns_topic.alarms.arn]
  ok_actions         = [aws_sns_topic.alarms.arn]
  tags               = var.tags
}

resource "aws_sns_topic" "alarms" {
  name = "${var.name}-alarms"
  tags = var.tags
}

resource "aws_sns_topic_policy" "alarms" {
  arn    = aws_sns_topic.alarms.arn
  policy = data.aws_iam_policy_document.alarms.json
}

data "aws_iam_policy_document" "alarms" {
  statement {
    sid       = "AlarmsAndBudgetsOfThisAccount"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alarms.arn]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.here.account_id]
    }
  }
}

resource "aws_sns_topic_subscription" "mail" {
  for_each = var.alarm_emails

  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = each.key
}

resource "aws_budgets_budget" "pool" {
  count = var.monthly_budget_usd == null ? 0 : 1

  name         = var.name
  budget_type  = "COST"
  limit_amount = tostring(var.monthly_budget_usd)
  limit_unit   = "USD"
  time_unit    = "MONTHLY"
  tags         = var.tags

  cost_filter {
    name   = "TagKeyValue"
    values = [format("user:ScatterhoardPool$%s", var.name)]
  }

  notification {
    notification_type         = "ACTUAL"
    comparison_operator       = "GREATER_THAN"
    threshold                 = 80
    threshold_type            = "PERCENTAGE"
    subscriber_sns_topic_arns = [aws_sns_topic.alarms.arn]
  }

  notification {
    notification_type         = "FORECASTED"
    comparison_operator       = "GREATER_THAN"
    threshold                 = 100
    threshold_type            = "PERCENTAGE"
    subscriber_sns_topic_arns = [aws_sns_topic.alarms.arn]
  }

  depends_on = [aws_sns_topic_policy.alarms]
}
