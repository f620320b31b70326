# 100 functions of 1 GB: about 80 GB.
#
#   deploy/package all      # on an arm64 machine, or with -var architecture=x86_64
#   aws ssm put-parameter --type SecureString --name /scatterhoard/medium/requirepass \
#       --value "$(openssl rand -base64 33)"
#   terraform init && terraform apply

terraform {
  required_version = ">= 1.7"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.80, < 6.0"
    }
  }
}

variable "region" {
  description = "Where."
  type        = string
  default     = "us-east-1"
}

variable "packages" {
  description = "Folder with what deploy/package made."
  type        = string
  default     = "../../../../target/package/out"
}

variable "client_cidrs" {
  description = "From where clients connect."
  type        = set(string)
  default     = ["10.87.0.0/16"]
}

variable "architecture" {
  description = "What the packages were built for."
  type        = string
  default     = "arm64"
}

provider "aws" {
  region = var.region
}

module "pool" {
  source = "../.."

  name                = "medium"
  architecture        = var.architecture
  node_package        = "${var.packages}/node-${var.architecture}.zip"
  proxy_package       = "${var.packages}/scatterhoard-${var.architecture}.tar.gz"
  nodes               = 100
  node_memory_mb      = 1024
  proxy_instance_type = var.architecture == "arm64" ? "c6gn.large" : "c5n.large"
  account_concurrency = 1000
  client_cidrs        = var.client_cidrs
  monthly_budget_usd  = 200
}

output "pool" {
  description = "Endpoint, costs, and everything else that is to know."
  value       = module.pool
}
