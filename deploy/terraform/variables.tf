variable "name" {
  description = "Name of the pool: prefix of everything that is made, and of the functions (NAME-node-000 and so on). One name, one proxy, one pool."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,24}[a-z0-9]$", var.name))
    error_message = "name must have 3 to 26 characters: small letters, digits and hyphens, a letter first, no hyphen last."
  }
}

variable "node_package" {
  description = "Path of node-ARCH.zip, as made by deploy/package."
  type        = string
}

variable "proxy_package" {
  description = "Path of scatterhoard-ARCH.tar.gz, as made by deploy/package."
  type        = string
}

variable "architecture" {
  description = "What both packages were built for: x86_64 or arm64 (a fifth cheaper by the GB-second, and with smaller machines for the proxy)."
  type        = string
  default     = "x86_64"

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "architecture must be x86_64 or arm64."
  }
}

# The pool

variable "nodes" {
  description = "Number of functions. At least data + parity chunks; two more can step in for those that are away."
  type        = number

  validation {
    condition     = var.nodes >= 3 && var.nodes <= 999 && floor(var.nodes) == var.nodes
    error_message = "nodes must be a whole number from 3 to 999. For more take several pools with a proxy each: docs/operations.md."
  }
}

variable "drained_to" {
  description = "Lowering `nodes` deletes functions with what they hold. Empty them first (`scatterhoard pool drain N --wait` on the proxy's machine), then set this to the same number as `nodes`: it says that those from there on are empty."
  type        = number
  default     = null
}

variable "emptied_for" {
  description = "Other memory, another time-out or architecture make all instances new at once: what the pool holds is lost, so a plan that would is refused and says what to set here, such as \"1024 MB, 900 s, arm64\". How to change memory and time-out without a loss: docs/operations.md, Rolling update."
  type        = string
  default     = null
}

variable "node_memory_mb" {
  description = "Memory of each function in MB. Capacity is about nodes x memory x 0.9 x data / (data + parity)."
  type        = number

  validation {
    condition     = var.node_memory_mb >= 128 && var.node_memory_mb <= 10240 && floor(var.node_memory_mb) == var.node_memory_mb
    error_message = "node_memory_mb must be a whole number from 128 to 10240, which is what Lambda has (a new account may be limited to 3008)."
  }
}

variable "data_parity" {
  description = "Erasure code of large objects, D+P: any P of D + P nodes may be lost."
  type        = string
  default     = "10+2"

  validation {
    condition     = can(regex("^[1-9][0-9]?[+][0-9]+$", var.data_parity))
    error_message = "data_parity must be like 10+2."
  }
}

variable "function_timeout_s" {
  description = "Time-out of the functions in seconds: how long one invocation may serve at most. A node returns 10 s before."
  type        = number
  default     = 900

  validation {
    condition     = var.function_timeout_s >= 30 && var.function_timeout_s <= 900
    error_message = "function_timeout_s must be 30 to 900."
  }
}

variable "reserved_concurrency" {
  description = "Concurrent executions that each function keeps for itself, taken from the account's; null: none. A node needs up to 3: its instance, its standby, and one that was given up (a link that broke, a proxy that was replaced) and has not ended yet."
  type        = number
  default     = null

  validation {
    condition     = var.reserved_concurrency == null ? true : var.reserved_concurrency >= 3
    error_message = "reserved_concurrency must be at least 3, or null."
  }
}

variable "account_concurrency" {
  description = "The account's quota of concurrent executions in this region (Service Quotas, Lambda). New accounts may have 10."
  type        = number
  default     = 1000

  validation {
    condition     = var.account_concurrency >= 10
    error_message = "account_concurrency must be at least 10."
  }
}

# The network

variable "availability_zone" {
  description = "The one zone where all is, such as us-east-1a: traffic between zones is charged, and all data passes the proxy. Null: the first of the region."
  type        = string
  default     = null
}

variable "vpc_id" {
  description = "An existing VPC for the two subnets. Null: a VPC of its own."
  type        = string
  default     = null
}

variable "vpc_cidr" {
  description = "Addresses of the VPC, if one is made."
  type        = string
  default     = "10.87.0.0/16"

  validation {
    condition     = can(cidrhost(var.vpc_cidr, 0))
    error_message = "vpc_cidr must be like 10.87.0.0/16."
  }
}

variable "proxy_subnet_cidr" {
  description = "Addresses of the proxy's subnet, within the VPC; at least /28."
  type        = string
  default     = "10.87.0.0/28"

  validation {
    condition     = can(cidrhost(var.proxy_subnet_cidr, 8))
    error_message = "proxy_subnet_cidr must be like 10.87.0.0/28, and no smaller."
  }
}

variable "node_subnet_cidr" {
  description = "Addresses of the functions' subnet, within the VPC. Functions share network interfaces: a /26 is plenty."
  type        = string
  default     = "10.87.1.0/26"

  validation {
    condition     = can(cidrhost(var.node_subnet_cidr, 8))
    error_message = "node_subnet_cidr must be like 10.87.1.0/26."
  }
}

variable "internet_gateway_id" {
  description = "The internet gateway of the existing VPC (vpc_id), for lambda_api = \"public\"."
  type        = string
  default     = null
}

variable "lambda_api" {
  description = "How the proxy's machine reaches AWS: \"public\" (a public address, $0.005 an hour; its security group lets nothing in from there) or \"endpoint\" (interface endpoints in a network without internet, $0.01 an hour each; four, and one more for session_manager). In an existing VPC see private_dns_for_vpc."
  type        = string
  default     = "public"

  validation {
    condition     = contains(["public", "endpoint"], var.lambda_api)
    error_message = "lambda_api must be public or endpoint."
  }
}

variable "private_dns_for_vpc" {
  description = "For lambda_api = \"endpoint\" in an existing VPC: that there AWS's names (lambda, ec2, ssm, monitoring and, for session_manager, ssmmessages) lead everybody to the module's endpoints. The VPC's addresses are let in. A VPC that has such endpoints already refuses others."
  type        = bool
  default     = false
}

variable "client_cidrs" {
  description = "Addresses from which clients may connect. They should be in the same zone."
  type        = set(string)

  validation {
    condition     = length(var.client_cidrs) > 0 && alltrue([for cidr in var.client_cidrs : can(cidrhost(cidr, 0))])
    error_message = "client_cidrs must have addresses like 10.0.0.0/16."
  }

  validation {
    condition     = alltrue([for cidr in var.client_cidrs : !endswith(cidr, "/0")])
    error_message = "client_cidrs must not let everybody in."
  }
}

# The proxy

variable "proxy_instance_type" {
  description = "Type of the proxy's machine, of the architecture of the packages. Its baseline bandwidth limits the pool: all data passes it. Null: c6gn.medium (arm64, 200 MB/s) or c5n.large (x86_64, 375 MB/s)."
  type        = string
  default     = null

  validation {
    condition     = var.proxy_instance_type == null ? true : can(regex("^[a-z0-9-]+[.][a-z0-9-]+$", var.proxy_instance_type))
    error_message = "proxy_instance_type must be like c6gn.medium."
  }
}

variable "ami_id" {
  description = "An Amazon Linux 2023 image of that architecture. Null: the newest at the time a machine starts."
  type        = string
  default     = null

  validation {
    condition     = var.ami_id == null ? true : startswith(var.ami_id, "ami-")
    error_message = "ami_id must be like ami-0123456789abcdef0."
  }
}

variable "journal_gb" {
  description = "Size of the journal's volume in GB. It can grow later, not shrink."
  type        = number
  default     = 20

  validation {
    condition     = var.journal_gb >= 4 && var.journal_gb <= 16384
    error_message = "journal_gb must be 4 to 16384."
  }
}

variable "journal_snapshot" {
  description = "Whether a snapshot of the journal is made when it is destroyed."
  type        = bool
  default     = false
}

variable "tls" {
  description = "Whether clients speak TLS, on port 6380, and on no other. Certificate and key are parameters: tls.pem and tls.key below secrets_path."
  type        = bool
  default     = false
}

variable "secrets_path" {
  description = "Path in the parameter store where the proxy finds its secrets (SecureString): requirepass or users.acl, and with TLS tls.pem and tls.key. Terraform never reads or writes them. Null: /scatterhoard/NAME."
  type        = string
  default     = null

  validation {
    condition     = var.secrets_path == null ? true : can(regex("^(/[A-Za-z0-9_.-]+)+$", var.secrets_path))
    error_message = "secrets_path must be like /scatterhoard/builds, without a slash at its end."
  }
}

variable "secrets_key_arn" {
  description = "The KMS key of these parameters, if it is not AWS's own for the parameter store."
  type        = string
  default     = null
}

variable "settings" {
  description = "More settings of the proxy, as in scatterhoard.example.toml: strings, numbers, booleans, lists of strings. The running proxy takes them at its next start: `systemctl restart scatterhoard`. No secrets: they would be in the state, and in a parameter that many may read."
  type        = any
  default     = {}

  validation {
    condition     = can(keys(var.settings)) && alltrue([for value in values(var.settings) : can(tostring(value)) || can([for item in tolist(value) : tostring(item)])])
    error_message = "settings must be an object of strings, numbers, booleans and lists of strings."
  }

  validation {
    condition     = !contains(keys(var.settings), "requirepass")
    error_message = "settings must not have requirepass: put it into the parameter store, below secrets_path."
  }

  validation {
    condition = length(setintersection(keys(var.settings), [
      "listen", "admin", "nodes", "node_memory_mb", "data_parity", "function_timeout_s", "lambda_endpoint", "function_prefix", "link_listen",
      "link_advertise", "data_dir", "backing_store", "tls_listen", "tls_cert_file", "tls_key_file", "acl_file"
    ])) == 0
    error_message = "settings must not have what the module sets itself: listen, admin, nodes, node_memory_mb, data_parity, function_timeout_s, lambda_endpoint, function_prefix, link_*, data_dir, backing_store, tls_listen, tls_*_file, acl_file."
  }
}

variable "kms_key_arn" {
  description = "A KMS key for volumes, buckets, the nodes' log and the proxy's settings; null: AWS's own keys, which cost nothing. Its policy must let the log service (logs.REGION.amazonaws.com) and AWSServiceRoleForAutoScaling use it. Only from the start: a change replaces the journal's volume by an empty one."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null ? true : can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", var.kms_key_arn))
    error_message = "kms_key_arn must be like arn:aws:kms:us-east-1:123456789012:key/..., not an alias."
  }
}

variable "session_manager" {
  description = "Whether the proxy's machine can be entered through Session Manager, by those whom IAM lets. There is no other way in."
  type        = bool
  default     = true
}

# What it is backed by, and who watches

variable "backing_store" {
  description = "Whether everything is also in an S3 bucket: docs/backing-store.md."
  type        = bool
  default     = false
}

variable "backing_store_force_destroy" {
  description = "Whether destroying the module deletes what is in that bucket."
  type        = bool
  default     = false
}

variable "log_retention_days" {
  description = "How long the nodes' log is kept. They log warnings only."
  type        = number
  default     = 14

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days must be one that CloudWatch Logs has: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400 and so on."
  }
}

variable "alarm_emails" {
  description = "Who is told of alarms; each must confirm a mail."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for address in var.alarm_emails : can(regex("^[^@ ]+@[^@ ]+$", address))])
    error_message = "alarm_emails must be mail addresses."
  }
}

variable "monthly_budget_usd" {
  description = "Dollars a month from which on there is an alarm (at 80 % and forecast 100 %). Counted is what has the tag ScatterhoardPool = NAME, which must be activated for cost allocation. Null: none."
  type        = number
  default     = null

  validation {
    condition     = var.monthly_budget_usd == null ? true : var.monthly_budget_usd > 0
    error_message = "monthly_budget_usd must be more than 0, or null."
  }
}

variable "prices" {
  description = "Prices for the output idle_usd_per_hour, in dollars; those of us-east-1 unless set. machine_usd_h: of proxy_instance_type, if the module does not know it."
  type = object({
    machine_usd_h     = optional(number)
    request_usd       = optional(number, 0.0000002)
    x86_64_gb_s_usd   = optional(number, 0.0000166667)
    arm64_gb_s_usd    = optional(number, 0.0000133334)
    public_ipv4_usd_h = optional(number, 0.005)
    endpoint_usd_h    = optional(number, 0.01)
    volume_gb_month   = optional(number, 0.08)
    metric_month      = optional(number, 0.30)
    alarm_month       = optional(number, 0.10)
    put_metrics_usd   = optional(number, 0.00001)
  })
  default = {}
}
