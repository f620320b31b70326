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
