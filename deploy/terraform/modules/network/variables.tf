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

variable "vpc_id" {
  description = "An existing VPC, or null."
  type        = string
}

variable "vpc_cidr" {
  description = "Addresses of the VPC, if one is made."
  type        = string
}

variable "proxy_subnet_cidr" {
  description = "Addresses of the proxy's subnet."
  type        = string
}

variable "node_subnet_cidr" {
  description = "Addresses of the functions' subnet."
  type        = string
}

variable "internet_gateway_id" {
  description = "The gateway of an existing VPC, or null."
  type        = string
}

variable "lambda_api" {
  description = "public or endpoint."
  type        = string
}

variable "private_dns_for_vpc" {
  description = "Whether all of an existing VPC may use the endpoints."
  type        = bool
}

variable "session_manager" {
  description = "Whether Session Manager must be reachable."
  type        = bool
}

variable "client_cidrs" {
  description = "From where clients connect."
  type        = set(string)
}

variable "client_port" {
  description = "Where they do."
  type        = number
}

variable "link_port" {
  description = "Where nodes dial."
  type        = number
}
