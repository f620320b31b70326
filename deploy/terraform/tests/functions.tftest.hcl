# What happens to functions that are there.

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/mock" }
  }
}

variables {
  name                 = "test-pool"
  tags                 = {}
  names                = ["test-pool-node-000", "test-pool-node-001"]
  architecture         = "x86_64"
  memory_mb            = 512
  timeout_s            = 900
  reserved_concurrency = null
  package              = { bucket = "artefacts", key = "node-1.zip", sha256 = "1" }
  network              = { subnet_id = "subnet-1", security_group_id = "sg-1" }
  log_retention_days   = 14
  kms_key_arn          = null
}

run "made" {
  module {
    source = "./modules/functions"
  }
  assert {
    condition     = alltrue([for function in aws_lambda_function.node : function.s3_key == "node-1.zip"])
    error_message = "functions get the package"
  }
}

run "new_code_is_left_to_the_proxy" {
  module {
    source = "./modules/functions"
  }
  variables {
    package = { bucket = "artefacts", key = "node-2.zip", sha256 = "2" }
    names   = ["test-pool-node-000", "test-pool-node-001", "test-pool-node-002"]
  }
  assert {
    condition     = [for function in aws_lambda_function.node : function.s3_key] == ["node-1.zip", "node-1.zip", "node-2.zip"]
    error_message = "only a new function gets it: ${join(" ", [for function in aws_lambda_function.node : function.s3_key])}"
  }
}

run "another_architecture_comes_with_its_code" {
  module {
    source = "./modules/functions"
  }
  variables {
    architecture = "arm64"
    package      = { bucket = "artefacts", key = "node-3.zip", sha256 = "3" }
    names        = ["test-pool-node-000", "test-pool-node-001", "test-pool-node-002"]
  }
  assert {
    condition     = alltrue([for function in aws_lambda_function.node : function.s3_key == "node-3.zip" && function.architectures == tolist(["arm64"])])
    error_message = "all are made anew: ${join(" ", [for function in aws_lambda_function.node : function.s3_key])}"
  }
}
