variable "name" {
  description = "Name of the pool."
  type        = string
}

variable "tags" {
  description = "Tags for everything."
  type        = map(string)
}

variable "names" {
  description = "Names of the functions."
  type        = list(string)
}

variable "architecture" {
  description = "x86_64 or arm64."
  type        = string
}

variable "memory_mb" {
  description = "Memory of each."
  type        = number
}

variable "timeout_s" {
  description = "Time-out of each."
  type        = number
}

variable "reserved_concurrency" {
  description = "Reserved concurrency of each, or null."
  type        = number
}

variable "package" {
  description = "Where the zip is, and its SHA-256 in base64."
  type        = object({ bucket = string, key = string, sha256 = string })
}

variable "network" {
  description = "Subnet and security group of the functions."
  type        = object({ subnet_id = string, security_group_id = string })
}

variable "kms_key_arn" {
  description = "The KMS key of the log, or null."
  type        = string
}

variable "log_retention_days" {
  description = "How long the log is kept."
  type        = number
}
