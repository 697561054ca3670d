"""The public traces that ``grainwise trace get`` knows: where their publishers keep them, and under which terms."""

from msgspec import Struct

_AZURE = "https://raw.githubusercontent.com/Azure/AzurePublicDataset/b469a113cedca53ddc3bdea71a143dc4b7d8700c/data"
_AZURE_STORE = "https://azurepublicdatasettraces.blob.core.windows.net"
_MOONCAKE = "https://raw.githubusercontent.com/kvcache-ai/Mooncake/3b5a594133958449a1feaf1c9e0fc1b553e34a28"
_COUNTS_OWNER = "https://raw.githubusercontent.com/reconfigurable-ml-pipeline"
_COUNTS = f"{_COUNTS_OWNER}/web-service-datasets/7404ad6643602943511e75ab3095fb1ccc990fd1"
_CC_BY = "CC BY 4.0, © Microsoft"


class PublicTrace(Struct, frozen=True):
    """A trace that its publisher offers for download.

    ``sha256`` is the hash of the file as published; ``None``: not known here, so the first download is trusted and its hash
    recorded. ``blob`` is the git hash by which the publisher's repository names the file, where it lies in one.
    ``unpack`` is the command that opens an archive.
    """

    name: str
    file: str
    url: str
    sha256: str | None
    licence: str
    citation: str
    what: str
    blob: str | None = None
    unpack: str | None = None


CATALOGUE = (
    PublicTrace(
        name="azure_llm_2023_code",
        file="azure_llm_2023_code.csv",
        url=f"{_AZURE}/AzureLLMInferenceTrace_code.csv",
        sha256="54e9a6d2a4bd06ba1e060304b900abbc74cbea53de96506e60fe5bb4f2277fb6",
        licence=_CC_BY,
        citation="P. Patel et al., Splitwise: Efficient Generative LLM Inference Using Phase Splitting, ISCA 2024",
        what="8,819 requests of a code-completion service in an hour; very bursty",
    ),
    PublicTrace(
        name="azure_llm_2023_conv",
        file="azure_llm_2023_conv.csv",
        url=f"{_AZURE}/AzureLLMInferenceTrace_conv.csv",
        sha256="2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8",
        licence=_CC_BY,
        citation="P. Patel et al., Splitwise: Efficient Generative LLM Inference Using Phase Splitting, ISCA 2024",
        what="19,366 requests of a chat service in an hour; smooth",
    ),
    PublicTrace(
        name="azure_functions_2019",
        file="azurefunctions-dataset2019.tar.xz",
        url=f"{_AZURE_STORE}/azurepublicdatasetv2/azurefunctions_dataset2019/azurefunctions-dataset2019.tar.xz",
        sha256=None,
        licence=_CC_BY,
        citation="M. Shahrad et al., Serverless in the Wild, USENIX ATC 2020",
        what="invocations per minute and function over 14 days; an archive of one file a day",
        unpack="tar xf azurefunctions-dataset2019.tar.xz",
    ),
    PublicTrace(
        name="azure_functions_2021",
        file="AzureFunctionsInvocationTraceForTwoWeeksJan2021.rar",
        url=f"{_AZURE}/AzureFunctionsInvocationTraceForTwoWeeksJan2021.rar",
        sha256=None,
        blob="23d914f5c18a7ca6445489ef8f0be6d3e88b895a",
        licence=_CC_BY,
        citation="Y. Zhang et al., Faster and Cheaper Serverless Computing on Harvested Resources, SOSP 2021",
        what="2 million invocations of functions over 14 days; an archive",
        unpack="unrar x AzureFunctionsInvocationTraceForTwoWeeksJan2021.rar",
    ),
    PublicTrace(
        name="mooncake_conversation",
        file="mooncake_conversation.jsonl",
        url=f"{_MOONCAKE}/FAST25-release/traces/conversation_trace.jsonl",
        sha256="b8cbb061a85206d729d91cdc2981f43c9e0d99209dce588d3af5f7934408b9df",
        licence="Apache-2.0",
        citation="R. Qin et al., Mooncake: Trading More Storage for Less Computation, FAST 2025",
        what="12,031 requests of a chat service in an hour, in steps of 3 s",
    ),
    PublicTrace(
        name="nasa_http_1995",
        file="nasa_http_1995.tbz2",
        url=f"{_COUNTS}/dataset/nasa/workload.tbz2",
        sha256="7fa62292d993dde1f278eaa039b50860203a86fbc93a8f92150a548191be4ded",
        licence="the Internet Traffic Archive says: the traces may be freely redistributed",
        citation="M. Arlitt and C. Williamson, Web Server Workload Characterization, SIGMETRICS 1996",
        what="requests per second of a web server over 59 days, counted by others from the archive's logs",
        unpack="tar xf nasa_http_1995.tbz2",
    ),
)
