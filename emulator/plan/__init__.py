"""From a resolved lab to the operations that build it. Pure: the plan is data that everything else reads."""
