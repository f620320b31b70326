# The whole module with a provider that makes nothing.

mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["us-east-1a", "us-east-1b"] }
  }
  mock_data "aws_ec2_instance_type_offerings" {
    defaults = { locations = ["us-east-1a", "us-east-1b"] }
  }
  # as it is to be
  mock_data "aws_lambda_function" {
    defaults = { memory_size = 512, timeout = 900, architectures = ["x86_64"] }
  }
  mock_data "aws_region" {
    defaults = { name = "us-east-1" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:us-east-1:123456789012:mock" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/mock" }
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
  name           = "test-pool"
  node_package   = "tests/files/node.zip"
  proxy_package  = "tests/files/proxy.tar.gz"
  nodes          = 14
  node_memory_mb = 512
  client_cidrs   = ["10.0.0.0/16", "10.1.0.0/16"]
}

run "a_pool" {
  assert {
    condition     = length(output.functions) == 14 && output.functions[0] == "test-pool-node-000" && output.functions[13] == "test-pool-node-013"
    error_message = "functions must be named as the proxy names them"
  }
  assert {
    condition     = output.endpoint == "10.87.0.13:6379"
    error_message = "clients must find the fixed address: ${output.endpoint}"
  }
  assert {
    condition     = output.availability_zone == "us-east-1a"
    error_message = "everything is in one zone"
  }
  assert {
    condition     = output.secrets_path == "/scatterhoard/test-pool"
    error_message = "secrets have a place of their own"
  }
  assert {
    # 14 x 512 MiB x 0.9 x 10/12
    condition     = output.capacity_gb == 5.6
    error_message = "capacity: ${output.capacity_gb}"
  }
  assert {
    condition     = output.backing_bucket == null
    error_message = "no bucket unless asked for"
  }
  assert {
    condition     = one(one(aws_s3_bucket_lifecycle_configuration.artefacts.rule).abort_incomplete_multipart_upload).days_after_initiation == 1
    error_message = "uploads that were never finished are not kept"
  }
}

# The parts of the sum, by hand: 14 nodes, 80 rounds an hour, two requests and 31 ms of 0.5 GB each;
# c5n.large, a public address, 28 GB of volumes, 15 metrics, 11 alarms.
run "what_it_costs_while_idle" {
  assert {
    condition     = abs(output.idle_usd_per_hour_by_part.requests - 14 * 80 * 2 * 0.0000002) < 1e-7
    error_message = "requests: ${output.idle_usd_per_hour_by_part.requests}"
  }
  assert {
    condition     = abs(output.idle_usd_per_hour_by_part.duration - 14 * 80 * 0.031 * 0.5 * 0.0000166667) < 1e-7
    error_message = "duration: ${output.idle_usd_per_hour_by_part.duration}"
  }
  assert {
    condition     = output.idle_usd_per_hour_by_part.machine == 0.108 && output.idle_usd_per_hour_by_part.network == 0.005
    error_message = "the machine and its way to AWS"
  }
  assert {
    condition     = abs(output.idle_usd_per_hour_by_part.watching - (15 * 0.30 + 11 * 0.10) / 730 - 60 * 0.00001) < 1e-7
    error_message = "metrics and alarms: ${output.idle_usd_per_hour_by_part.watching}"
  }
  assert {
    condition     = abs(output.idle_usd_per_hour - sum(values(output.idle_usd_per_hour_by_part))) < 1e-5
    error_message = "the sum"
  }
}

run "on_arm" {
  variables {
    architecture = "arm64"
  }
  assert {
    condition     = output.idle_usd_per_hour_by_part.machine == 0.0432
    error_message = "a smaller machine is enough"
  }
  assert {
    condition     = abs(output.idle_usd_per_hour_by_part.duration - 14 * 80 * 0.031 * 0.5 * 0.0000133334) < 1e-7
    error_message = "a GB-second costs a fifth less"
  }
}

run "a_machine_whose_price_nobody_knows" {
  variables {
    proxy_instance_type = "c9in.large"
  }
  assert {
    condition     = output.idle_usd_per_hour == null
    error_message = "no price is no sum"
  }
}

run "a_machine_whose_price_is_told" {
  variables {
    proxy_instance_type = "c9in.large"
    prices              = { machine_usd_h = 1 }
  }
  assert {
    condition     = output.idle_usd_per_hour > 1 && output.idle_usd_per_hour < 1.1
    error_message = "the price that was told counts: ${output.idle_usd_per_hour}"
  }
}

run "with_tls_and_a_backing_store" {
  variables {
    tls           = true
    backing_store = true
  }
  assert {
    condition     = endswith(output.endpoint, ":6380")
    error_message = "clients speak TLS: ${output.endpoint}"
  }
  assert {
    condition     = length(aws_s3_bucket_lifecycle_configuration.backing[0].rule) == 1
    error_message = "the only rule is about unfinished uploads"
  }
  assert {
    condition     = alltrue([for rule in aws_s3_bucket_lifecycle_configuration.backing[0].rule : length(rule.expiration) == 0])
    error_message = "no rule may expire objects: the index decides"
  }
  assert {
    condition     = output.backing_bucket != null
    error_message = "the bucket is told"
  }
}

run "enough_concurrency_or_a_warning" {
  command = plan
  variables {
    account_concurrency = 41
  }
  expect_failures = [check.concurrency]
}

run "more_parity_than_nodes" {
  command = plan
  variables {
    nodes = 11
  }
  expect_failures = [terraform_data.settings]
}

run "a_machine_of_another_architecture" {
  command = plan
  variables {
    architecture        = "arm64"
    proxy_instance_type = "c5n.large"
  }
  expect_failures = [terraform_data.settings]
}

run "an_existing_network_without_a_way_out" {
  command = plan
  variables {
    vpc_id = "vpc-0123456789abcdef0"
  }
  expect_failures = [terraform_data.settings]
}

run "more_reserved_than_there_is" {
  command = plan
  variables {
    reserved_concurrency = 70
  }
  expect_failures = [terraform_data.settings]
}

run "a_zone_without_that_machine" {
  command = plan
  variables {
    availability_zone = "us-east-1e"
  }
  expect_failures = [terraform_data.settings]
}

run "a_zone_that_is_away_does_not_move_the_pool" {
  command = plan
  assert {
    condition     = data.aws_availability_zones.here.state == null
    error_message = "zones count whatever their state"
  }
}

run "fewer_nodes_without_a_drain" {
  command = plan
  override_data {
    target = data.aws_lambda_functions.there
    values = { function_names = ["test-pool-node-013", "test-pool-node-014", "test-pool-node-015", "test-pool-b-node-015", "other"] }
  }
  variables {
    # of another drain
    drained_to = 15
  }
  expect_failures = [terraform_data.settings]
}

run "fewer_nodes_after_a_drain" {
  command = plan
  override_data {
    target = data.aws_lambda_functions.there
    values = { function_names = ["test-pool-node-013", "test-pool-node-014", "test-pool-node-015", "test-pool-b-node-015", "other"] }
  }
  variables {
    drained_to = 14
  }
  assert {
    condition     = local.deleted == tolist(["test-pool-node-014", "test-pool-node-015"])
    error_message = "those beyond, and nobody else's: ${join(" ", local.deleted)}"
  }
}

run "functions_as_they_are" {
  command = plan
  override_data {
    target = data.aws_lambda_functions.there
    values = { function_names = ["test-pool-node-001", "other"] }
  }
  assert {
    condition     = data.aws_lambda_function.first[0].function_name == "test-pool-node-001"
    error_message = "asked is one that is there: ${data.aws_lambda_function.first[0].function_name}"
  }
}

run "other_memory_empties_the_pool" {
  command = plan
  override_data {
    target = data.aws_lambda_functions.there
    values = { function_names = ["test-pool-node-000"] }
  }
  override_data {
    target = data.aws_lambda_function.first[0]
    values = { memory_size = 1024, timeout = 900, architectures = ["x86_64"] }
  }
  variables {
    # of another change
    emptied_for = "1024 MB, 900 s, x86_64"
  }
  expect_failures = [terraform_data.settings]
}

run "another_time_out_empties_the_pool" {
  command = plan
  override_data {
    target = data.aws_lambda_functions.there
    values = { function_names = ["test-pool-node-000"] }
  }
  override_data {
    target = data.aws_lambda_function.first[0]
    values = { memory_size = 512, timeout = 600, architectures = ["x86_64"] }
  }
  expect_failures = [terraform_data.settings]
}

run "another_architecture_empties_the_pool" {
  command = plan
  override_data {
    target = data.aws_lambda_functions.there
    values = { function_names = ["test-pool-node-000"] }
  }
  override_data {
    target = data.aws_lambda_function.first[0]
    values = { memory_size = 512, timeout = 900, architectures = ["arm64"] }
  }
  expect_failures = [terraform_data.settings]
}

run "a_pool_that_may_be_emptied" {
  command = plan
  override_data {
    target = data.aws_lambda_functions.there
    values = { function_names = ["test-pool-node-000"] }
  }
  override_data {
    target = data.aws_lambda_function.first[0]
    values = { memory_size = 1024, timeout = 600, architectures = ["arm64"] }
  }
  variables {
    emptied_for = "512 MB, 900 s, x86_64"
  }
}

run "names_of_an_existing_network_are_a_decision" {
  command = plan
  variables {
    vpc_id     = "vpc-0123456789abcdef0"
    lambda_api = "endpoint"
  }
  expect_failures = [terraform_data.settings]
}

run "names_of_an_existing_network_decided" {
  command = plan
  variables {
    vpc_id              = "vpc-0123456789abcdef0"
    lambda_api          = "endpoint"
    private_dns_for_vpc = true
  }
}

run "with_a_key" {
  command = plan
  variables {
    kms_key_arn   = "arn:aws:kms:us-east-1:123456789012:key/1"
    backing_store = true
  }
  assert {
    condition = alltrue([
      for bucket in concat(aws_s3_bucket_server_side_encryption_configuration.artefacts, aws_s3_bucket_server_side_encryption_configuration.backing) :
      one(one(bucket.rule).apply_server_side_encryption_by_default).kms_master_key_id == var.kms_key_arn
    ]) && length(aws_s3_bucket_server_side_encryption_configuration.backing) == 1
    error_message = "both buckets are encrypted with it"
  }
}
