locals {
  # title, statistic, metrics of the pool
  graphs = [
    ["Healthy (1: enough nodes can be reached), outage (1: most fail)", "Minimum", ["Healthy", "Outage"]],
    ["Keys", "Average", ["Keys"]],
    ["Hits and misses", "Sum", ["Hits", "Misses"]],
    ["Memory of the nodes, disk of the journal (%)", "Maximum", ["MemoryUsed", "DiskUsed"]],
    ["Lost instances and objects, evictions", "Sum", ["LostInstances", "LostObjects", "Evicted"]],
    ["Repairs waiting", "Maximum", ["RepairsWaiting"]],
    ["Invocations that were throttled or refused", "Sum", ["Throttled", "Refused"]],
    ["Clients", "Maximum", ["Clients"]],
  ]
  sent = concat(
    ["Healthy", "Outage", "DiskUsed", "MemoryUsed", "Keys", "Clients", "RepairsWaiting", "Hits", "Misses", "Evicted", "LostObjects", "LostInstances", "JournalErrors", "Throttled", "Refused"],
    var.backing_store ? ["BackingAnswers"] : [],
  )
  functions = "{AWS/Lambda,FunctionName} FunctionName=${var.name}-node"

  widgets = concat(
    [for graph in local.graphs : {
      type = "metric", width = 8, height = 6
      properties = {
        title   = graph[0], stat = graph[1], period = 60, region = data.aws_region.here.name
        metrics = [for metric in graph[2] : ["Scatterhoard", metric, "Pool", var.name]]
      }
    }],
    [for metric in ["Invocations", "Errors", "Duration"] : {
      type = "metric", width = 8, height = 6
      properties = {
        title   = "Lambda: ${metric} of all nodes", region = data.aws_region.here.name, period = 300
        metrics = [[{ expression = "SUM(SEARCH('${local.functions} MetricName=\"${metric}\"', 'Sum', 300))", label = metric }]]
      }
    }],
    [
      {
        type = "metric", width = 8, height = 6
        properties = {
          title   = "Concurrent executions of the account", region = data.aws_region.here.name, period = 60, stat = "Maximum"
          metrics = [["AWS/Lambda", "ConcurrentExecutions"]]
        }
      },
      {
        type = "metric", width = 8, height = 6
        properties = {
          title   = "The proxy's machine", region = data.aws_region.here.name, period = 300, stat = "Average"
          metrics = [for metric in ["CPUUtilization", "NetworkIn", "NetworkOut"] : ["AWS/EC2", metric, "AutoScalingGroupName", var.asg_name, { yAxis = metric == "CPUUtilization" ? "left" : "right" }]]
        }
      },
      {
        type = "log", width = 24, height = 6
        properties = {
          title = "Warnings of the nodes", region = data.aws_region.here.name, view = "table"
          query = "SOURCE '${var.log_group}' | fields @timestamp, @message | sort @timestamp desc | limit 50"
        }
      },
    ],
  )
}

resource "aws_cloudwatch_dashboard" "pool" {
  dashboard_name = var.name
  dashboard_body = jsonencode({ widgets = local.widgets })
}
