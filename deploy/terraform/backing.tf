# The backing store (docs/backing-store.md). The proxy deletes what it does not need any more:
# only what it cannot know of is left to rules.

resource "aws_s3_bucket" "backing" {
  count = var.backing_store ? 1 : 0

  bucket_prefix = "${var.name}-backing-"
  force_destroy = var.backing_store_force_destroy
  tags          = local.tags
}

resource "aws_s3_bucket_public_access_block" "backing" {
  count = var.backing_store ? 1 : 0

  bucket                  = aws_s3_bucket.backing[0].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "backing" {
  count = var.backing_store && var.kms_key_arn != null ? 1 : 0

  bucket = aws_s3_bucket.backing[0].id

  rule {
    # one call to the key for many objects
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "backing" {
  count = var.backing_store ? 1 : 0

  bucket = aws_s3_bucket.backing[0].id

  # uploads in parts of a proxy that was killed; never objects, whose life the index decides
  rule {
    id     = "unfinished-uploads"
    status = "Enabled"
    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}
