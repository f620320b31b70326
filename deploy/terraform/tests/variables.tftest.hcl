# Bad input is refused before anything is asked of AWS, each variable by its own words.

mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["us-east-1a"] }
  }
  mock_data "aws_ec2_instance_type_offerings" {
    defaults = { locations = ["us-east-1a", "us-east-1b"] }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  name           = "test-pool"
  node_package   = "tests/files/node.zip"
  proxy_package  = "tests/files/proxy.tar.gz"
  nodes          = 14
  node_memory_mb = 512
  client_cidrs   = ["10.0.0.0/16"]
}

run "name_with_capitals" {
  command = plan
  variables {
    name = "Pool"
  }
  expect_failures = [var.name]
}

run "name_that_is_long" {
  command = plan
  variables {
    name = "a-name-that-is-longer-than-what-fits"
  }
  expect_failures = [var.name]
}

run "name_with_a_hyphen_last" {
  command = plan
  variables {
    name = "pool-"
  }
  expect_failures = [var.name]
}

run "no_such_architecture" {
  command = plan
  variables {
    architecture = "riscv"
  }
  expect_failures = [var.architecture]
}

run "no_nodes" {
  command = plan
  variables {
    nodes = 0
  }
  expect_failures = [var.nodes]
}

run "half_a_node" {
  command = plan
  variables {
    nodes = 12.5
  }
  expect_failures = [var.nodes]
}

run "too_many_nodes" {
  command = plan
  variables {
    nodes = 1000
  }
  expect_failures = [var.nodes]
}

run "too_little_memory" {
  command = plan
  variables {
    node_memory_mb = 64
  }
  expect_failures = [var.node_memory_mb]
}

run "too_much_memory" {
  command = plan
  variables {
    node_memory_mb = 20000
  }
  expect_failures = [var.node_memory_mb]
}

run "no_parity" {
  command = plan
  variables {
    data_parity = "10"
  }
  expect_failures = [var.data_parity]
}

run "time_out_of_a_day" {
  command = plan
  variables {
    function_timeout_s = 86400
  }
  expect_failures = [var.function_timeout_s]
}

run "too_little_reserved" {
  command = plan
  variables {
    reserved_concurrency = 2
  }
  expect_failures = [var.reserved_concurrency]
}

run "no_concurrency" {
  command = plan
  variables {
    account_concurrency = 0
  }
  expect_failures = [var.account_concurrency]
}

run "no_network" {
  command = plan
  variables {
    vpc_cidr = "here"
  }
  expect_failures = [var.vpc_cidr]
}

run "subnet_too_small" {
  command = plan
  variables {
    proxy_subnet_cidr = "10.87.0.0/30"
  }
  expect_failures = [var.proxy_subnet_cidr]
}

run "node_subnet_is_none" {
  command = plan
  variables {
    node_subnet_cidr = "10.87.1.0"
  }
  expect_failures = [var.node_subnet_cidr]
}

run "no_such_way" {
  command = plan
  variables {
    lambda_api = "nat"
  }
  expect_failures = [var.lambda_api]
}

run "no_clients" {
  command = plan
  variables {
    client_cidrs = []
  }
  expect_failures = [var.client_cidrs]
}

run "everybody_is_a_client" {
  command = plan
  variables {
    client_cidrs = ["0.0.0.0/0"]
  }
  expect_failures = [var.client_cidrs]
}

run "client_by_name" {
  command = plan
  variables {
    client_cidrs = ["example.com"]
  }
  expect_failures = [var.client_cidrs]
}

run "no_such_machine" {
  command = plan
  variables {
    proxy_instance_type = "large"
  }
  expect_failures = [var.proxy_instance_type]
}

run "no_image" {
  command = plan
  variables {
    ami_id = "al2023"
  }
  expect_failures = [var.ami_id]
}

run "tiny_journal" {
  command = plan
  variables {
    journal_gb = 1
  }
  expect_failures = [var.journal_gb]
}

run "secrets_path_with_a_slash" {
  command = plan
  variables {
    secrets_path = "/scatterhoard/"
  }
  expect_failures = [var.secrets_path]
}

run "password_in_the_state" {
  command = plan
  variables {
    settings = { requirepass = "secret" }
  }
  expect_failures = [var.settings]
}

run "settings_of_the_module" {
  command = plan
  variables {
    settings = { lambda_endpoint = "http://127.0.0.1:1" }
  }
  expect_failures = [var.settings]
}

run "settings_that_are_none" {
  command = plan
  variables {
    settings = { cluster = { a = 1 } }
  }
  expect_failures = [var.settings]
}

run "no_such_retention" {
  command = plan
  variables {
    log_retention_days = 8
  }
  expect_failures = [var.log_retention_days]
}

run "no_mail_address" {
  command = plan
  variables {
    alarm_emails = ["ops"]
  }
  expect_failures = [var.alarm_emails]
}

run "no_budget" {
  command = plan
  variables {
    monthly_budget_usd = 0
  }
  expect_failures = [var.monthly_budget_usd]
}


run "key_by_its_alias" {
  command = plan
  variables {
    kms_key_arn = "alias/mine"
  }
  expect_failures = [var.kms_key_arn]
}
