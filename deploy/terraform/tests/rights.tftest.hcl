# Which functions the proxy may invoke: patterns for exactly those of the pool. What policies allow
# is judged by an emulator's evaluator: deploy/tests/test_terraform.py.

mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { name = "us-east-1" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_resource "aws_iam_instance_profile" {
    defaults = { arn = "arn:aws:iam::123456789012:instance-profile/mock" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }
  mock_resource "aws_ebs_volume" {
    defaults = { id = "vol-0123456789abcdef0" }
  }
}

variables {
  name              = "test-pool"
  tags              = { ScatterhoardPool = "test-pool" }
  zone              = "us-east-1a"
  architecture      = "x86_64"
  instance_type     = "c5n.large"
  ami_id            = null
  subnet_id         = "subnet-1"
  security_group_id = "sg-1"
  address           = "10.87.0.13"
  public_address    = true
  package           = { bucket = "artefacts", key = "proxy.tar.gz", sha256 = "0" }
  journal_gb        = 20
  journal_snapshot  = false
  secrets_path      = "/scatterhoard/test-pool"
  secrets_key_arn   = null
  kms_key_arn       = null
  tls_port          = null
  link_port         = 7000
  session_manager   = true
  function_prefix   = "test-pool-node"
  nodes             = 14
  node_memory_mb    = 512
  data_parity       = "10+2"
  settings          = { hot_tier_mb = 128, recover = "inventory", standby = true, cluster = ["10.87.0.13:6379 0-8191", "10.87.0.29:6379 8192-16383"] }
  backing_bucket    = null
}

run "few" {
  command = plan
  module {
    source = "./modules/proxy"
  }
  assert {
    condition     = local.suffixes == ["00?", "010", "011", "012", "013"]
    error_message = "patterns: ${join(" ", local.suffixes)}"
  }
  assert {
    condition     = local.function_arns[1] == "arn:aws:lambda:us-east-1:123456789012:function:test-pool-node-010"
    error_message = local.function_arns[1]
  }
}

run "many" {
  command = plan
  module {
    source = "./modules/proxy"
  }
  variables {
    nodes = 400
  }
  assert {
    condition     = local.suffixes == ["0??", "1??", "2??", "3??"]
    error_message = "patterns: ${join(" ", local.suffixes)}"
  }
}

run "as_many_patterns_as_there_can_be" {
  command = plan
  module {
    source = "./modules/proxy"
  }
  variables {
    nodes = 999
  }
  assert {
    condition     = length(local.suffixes) == 27
    error_message = "a policy has room for these"
  }
}

run "settings_of_the_proxy" {
  command = plan
  module {
    source = "./modules/proxy"
  }
  assert {
    condition     = strcontains(local.toml, "hot_tier_mb = 128\n") && strcontains(local.toml, "recover = \"inventory\"\n") && strcontains(local.toml, "standby = true\n") && strcontains(local.toml, "cluster = [\"10.87.0.13:6379 0-8191\",\"10.87.0.29:6379 8192-16383\"]\n")
    error_message = "what is set is in the file: ${local.toml}"
  }
  assert {
    condition     = strcontains(local.toml, "lambda_endpoint = \"aws\"\n") && strcontains(local.toml, "nodes = 14\n") && strcontains(local.toml, "listen = \"0.0.0.0:6379\"\n")
    error_message = "so is what the module knows: ${local.toml}"
  }
}

run "only_tls_from_outside" {
  command = plan
  module {
    source = "./modules/proxy"
  }
  variables {
    tls_port = 6380
  }
  assert {
    condition     = strcontains(local.toml, "listen = \"127.0.0.1:6379\"\n")
    error_message = "plain connections are for the machine itself: ${local.toml}"
  }
}

run "a_change_of_settings_leaves_the_machine" {
  module {
    source = "./modules/proxy"
  }
  assert {
    condition     = aws_ssm_parameter.settings.name == "/scatterhoard/test-pool/scatterhoard.toml" && aws_ssm_parameter.settings.value == local.toml
    error_message = "settings are a parameter"
  }
  assert {
    condition     = strcontains(local.user_data, "CONFIG=/scatterhoard/test-pool/scatterhoard.toml\n")
    error_message = "which the machine is told: ${local.user_data}"
  }
  assert {
    condition     = length([for line in split("\n", local.toml) : line if line != "" && strcontains(local.user_data, line)]) == 0
    error_message = "no setting is in the user data: ${local.user_data}"
  }
}

run "more_settings_than_a_parameter_holds" {
  command = plan
  module {
    source = "./modules/proxy"
  }
  variables {
    settings = { cluster = [for i in range(200) : "10.87.0.13:6379 ${i}-${i}"] }
  }
  expect_failures = [aws_ssm_parameter.settings]
}

run "volumes_and_settings_with_a_key" {
  command = plan
  module {
    source = "./modules/proxy"
  }
  variables {
    kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/1"
  }
  assert {
    condition     = aws_ssm_parameter.settings.type == "SecureString" && aws_ssm_parameter.settings.key_id == var.kms_key_arn
    error_message = "settings are encrypted with it"
  }
  assert {
    condition     = aws_ebs_volume.journal.kms_key_id == var.kms_key_arn && one(one(aws_launch_template.proxy.block_device_mappings).ebs).kms_key_id == var.kms_key_arn
    error_message = "so are both volumes"
  }
  assert {
    condition     = length([for statement in data.aws_iam_policy_document.proxy.statement : statement if statement.resources == toset([var.kms_key_arn])]) == 2
    error_message = "the machine may use it"
  }
}
