"""What watches a job: they listen to `parimg.events`, the job knows none of them."""
