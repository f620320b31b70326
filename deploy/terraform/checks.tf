# What no single variable can tell. Preconditions stop a plan, checks only warn.

# Functions that are there.
data "aws_lambda_functions" "there" {}

locals {
  offered_in = flatten(data.aws_ec2_instance_type_offerings.proxy[*].locations)
  there      = [for name in local.function_names : name if contains(data.aws_lambda_functions.there.function_names, name)]
  # of this pool, and not to be any more
  deleted = sort([
    for name in data.aws_lambda_functions.there.function_names : name
    if can(regex("^${var.name}-node-[0-9]{3}$", name)) && !contains(local.function_names, name)
  ])
  # What makes all instances new at once when it changes, as it is to be and as it is.
  functions_will_have = "${var.node_memory_mb} MB, ${var.function_timeout_s} s, ${var.architecture}"
  functions_have      = one([for one in data.aws_lambda_function.first : "${one.memory_size} MB, ${one.timeout} s, ${join("", one.architectures)}"])
}

# One for all: they are alike, and changed together.
data "aws_lambda_function" "first" {
  count = length(local.there) > 0 ? 1 : 0

  function_name = local.there[0]
  qualifier     = "$LATEST"
}

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
      condition     = contains(local.offered_in, local.zone)
      error_message = "There is no ${local.instance_type} in ${local.zone}: ${length(local.offered_in) > 0 ? "set availability_zone to one of ${join(", ", sort(local.offered_in))}, or" : "no zone of this region has it:"} take another proxy_instance_type."
    }
    precondition {
      condition     = length(local.deleted) == 0 || coalesce(var.drained_to, -1) == var.nodes
      error_message = "nodes = ${var.nodes} deletes functions with what they hold: ${join(", ", local.deleted)}. Empty them first (scatterhoard pool drain ${length(local.deleted)} --wait, on the proxy's machine), then set drained_to = ${var.nodes}."
    }
    precondition {
      condition     = local.functions_have == null || local.functions_have == local.functions_will_have || var.emptied_for == local.functions_will_have
      error_message = "The functions have ${coalesce(local.functions_have, "nothing")}, and are to have ${local.functions_will_have}: Lambda replaces all their instances at once, and what the pool holds is lost. Change them node by node first (docs/operations.md, Rolling update), or set emptied_for = \"${local.functions_will_have}\" to begin with an empty pool."
    }
    precondition {
      condition     = var.lambda_api == "public" || var.vpc_id == null || var.private_dns_for_vpc
      error_message = "lambda_api = \"endpoint\" in an existing VPC has AWS's names lead everybody there to this module's endpoints. If that is meant, set private_dns_for_vpc = true; otherwise take lambda_api = \"public\", or a VPC of its own."
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
