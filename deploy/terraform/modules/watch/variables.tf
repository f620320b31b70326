variable "name" {
  description = "Name of the pool."
  type        = string
}

variable "tags" {
  description = "Tags for everything."
  type        = map(string)
}

variable "nodes" {
  description = "How many there are."
  type        = number
}

variable "asg_name" {
  description = "The group of the proxy's machine."
  type        = string
}

variable "account_concurrency" {
  description = "The account's quota."
  type        = number
}

variable "log_group" {
  description = "The nodes' log."
  type        = string
}

variable "backing_store" {
  description = "Whether there is one."
  type        = bool
}

variable "alarm_emails" {
  description = "Who is told."
  type        = set(string)
}

variable "monthly_budget_usd" {
  description = "The budget, or null."
  type        = number
}
