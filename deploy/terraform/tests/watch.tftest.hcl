# What the budget counts, and what watches the pool.

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:us-east-1:123456789012:mock" }
  }
}

variables {
  name                = "test-pool"
  tags                = { ScatterhoardPool = "test-pool" }
  nodes               = 14
  asg_name            = "test-pool-proxy"
  account_concurrency = 1000
  log_group           = "/aws/lambda/test-pool"
  backing_store       = false
  alarm_emails        = []
  monthly_budget_usd  = 50
}

run "the_budget_counts_what_has_the_tag" {
  module {
    source = "./modules/watch"
  }
  assert {
    # AWS writes it: user:KEY, a dollar sign, the value
    condition     = one(aws_budgets_budget.pool[0].cost_filter).values == tolist(["user:ScatterhoardPool$test-pool"])
    error_message = jsonencode(aws_budgets_budget.pool[0].cost_filter)
  }
}

run "an_outage_of_the_zone_is_told" {
  module {
    source = "./modules/watch"
  }
  assert {
    # two looks of scatterhoard-metrics, a minute apart, that both say 1
    condition = alltrue([
      for alarm in [aws_cloudwatch_metric_alarm.alarm["outage"]] :
      alarm.namespace == "Scatterhoard" && alarm.metric_name == "Outage" && alarm.dimensions == tomap({ Pool = "test-pool" })
      && alarm.comparison_operator == "GreaterThanThreshold" && alarm.threshold == 0
      && alarm.period == 60 && alarm.evaluation_periods == 2 && length(alarm.alarm_actions) == 1
    ])
    error_message = jsonencode(aws_cloudwatch_metric_alarm.alarm["outage"])
  }
}

run "alarms_and_graphs_know_what_is_sent" {
  module {
    source = "./modules/watch"
  }
  variables {
    backing_store = true
  }
  assert {
    # an alarm on what nobody sends never goes off
    condition     = length(setsubtract([for alarm in local.alarms : alarm.metric if alarm.namespace == "Scatterhoard"], local.sent)) == 0
    error_message = "alarms on what is not sent"
  }
  assert {
    condition     = length(setsubtract(flatten([for graph in local.graphs : graph[2]]), local.sent)) == 0
    error_message = "graphs of what is not sent"
  }
}
