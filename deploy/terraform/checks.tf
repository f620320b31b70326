# What no single variable can tell. Preconditions stop a plan, checks only warn.

resource "terraform_data" "settings" {
  input = { nodes = var.nodes, data_parity = var.data_parity }

  lifecycle {
    precondition {
      condition     = var.nodes >= sum(local.data_parity)
      error_message = "nodes (${var.nodes}) must be at least data + parity (${var.data_parity})."
    }
    precondition {
      condition     = can(regex("^(a1|[a-z]+[0-9]+g[a-z]*)[.]", local.instance_type)) == (var.architecture == "arm64")
      error_message = "proxy_instance_type ${local.instance_type} is not a machine for ${var.architecture}."
    }
    precondition {
      condition     = var.lambda_api == "endpoint" || var.vpc_id == null || var.internet_gateway_id != null
      error_message = "lambda_api = \"public\" in an existing VPC needs its internet_gateway_id."
    }
    precondition {
      condition     = var.reserved_concurrency == null ? true : var.reserved_concurrency * var.nodes <= var.account_concurrency - 100
      error_message = "reserved_concurrency x nodes (${coalesce(var.reserved_concurrency, 0) * var.nodes}) must leave 100 of the account's ${var.account_concurrency}: ask for a higher quota."
    }
  }
}

check "concurrency" {
  assert {
    condition     = var.account_concurrency >= 3 * var.nodes
    error_message = "The account's concurrency (${var.account_concurrency}) is less than 3 x nodes (${3 * var.nodes}): rounds that wake many nodes at once, and their standbys, may be throttled. Ask for more (docs/operations.md)."
  }
}
