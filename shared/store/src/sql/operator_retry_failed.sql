SELECT virtuozo.retry_failed($1)
