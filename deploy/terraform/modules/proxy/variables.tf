variable "name" {
  description = "Name of the pool."
  type        = string
}

variable "tags" {
  description = "Tags for everything."
  type        = map(string)
}

variable "zone" {
  description = "The one zone."
  type        = string
}

variable "architecture" {
  description = "x86_64 or arm64."
  type        = string
}

variable "instance_type" {
  description = "Type of the machine."
  type        = string
}

variable "ami_id" {
  description = "An image, or null for the newest Amazon Linux 2023."
  type        = string
}

variable "subnet_id" {
  description = "The proxy's subnet."
  type        = string
}

variable "security_group_id" {
  description = "The proxy's security group."
  type        = string
}

variable "address" {
  description = "The address that moves along with the proxy."
  type        = string
}

variable "public_address" {
  description = "Whether the machine has a public address, too: its way to AWS."
  type        = bool
}

variable "package" {
  description = "Where the tarball is, and its SHA-256 in hexadecimal."
  type        = object({ bucket = string, key = string, sha256 = string })
}

variable "journal_gb" {
  description = "Size of the journal's volume."
  type        = number
}

variable "journal_snapshot" {
  description = "Whether a snapshot is made when it is destroyed."
  type        = bool
}

variable "secrets_path" {
  description = "Path of the secrets in the parameter store."
  type        = string
}

variable "secrets_key_arn" {
  description = "Their KMS key, or null."
  type        = string
}

variable "kms_key_arn" {
  description = "The KMS key of volumes and settings, or null for AWS's own."
  type        = string
}

variable "tls_port" {
  description = "Where clients speak TLS; null: they do not."
  type        = number
}

variable "link_port" {
  description = "Where nodes dial."
  type        = number
}

variable "session_manager" {
  description = "Whether Session Manager may enter."
  type        = bool
}

variable "function_prefix" {
  description = "Functions are named PREFIX-000 and so on."
  type        = string
}

variable "nodes" {
  description = "How many there are."
  type        = number
}

variable "node_memory_mb" {
  description = "Memory of each."
  type        = number
}

variable "data_parity" {
  description = "Erasure code of large objects."
  type        = string
}

variable "settings" {
  description = "More settings of the proxy."
  type        = any
}

variable "backing_bucket" {
  description = "Bucket of the backing store, or null."
  type        = string
}
